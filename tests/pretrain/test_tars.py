import gzip
import io
import tarfile

import pytest

from lvd_pretrain.config import DataConfig
from lvd_pretrain.errors import InputError
from lvd_pretrain.sources import open_images
from lvd_pretrain.tars import expand_braces


def pack(path, files):
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(images, tmp_path):
    files = sorted(images.rglob("*.jpg"))
    for shard in range(3):
        content = {f"{path.stem}.jpg": path.read_bytes() for path in files[shard * 8 : shard * 8 + 8]}
        pack(tmp_path / f"shard-{shard:02d}.tar", content | {f"{shard}.json": b"{}", f"../{shard}.txt": b"out"})
    return tmp_path


def test_tars_of_a_pattern_and_of_a_folder_give_the_original_bytes(shards, images):
    files = sorted(images.rglob("*.jpg"))
    for path in (shards, shards / "shard-{00..02}.tar"):
        source = open_images(DataConfig(path=str(path)))
        assert [source.read(i) for i in range(len(source))] == [file.read_bytes() for file in files]
    assert len(open_images(DataConfig(path=str(shards / "shard-01.tar")))) == 8


def test_fingerprint_follows_the_shards(shards):
    two = open_images(DataConfig(path=str(shards / "shard-{00..01}.tar"))).fingerprint
    assert two != open_images(DataConfig(path=str(shards / "shard-{00..02}.tar"))).fingerprint


def test_ranges_multiply_and_keep_their_width():
    assert expand_braces("a{8..10}-{00..01}") == [f"a{i}-{j:02d}" for i in (8, 9, 10) for j in (0, 1)]
    with pytest.raises(InputError, match="backwards"):
        expand_braces("{3..1}.tar")


def test_what_is_no_tar_or_ends_early_is_named(shards):
    whole = (shards / "shard-00.tar").read_bytes()
    (shards / "short.tar").write_bytes(whole[:1000])
    (shards / "packed.tar").write_bytes(gzip.compress(whole))
    pack(shards / "text.tar", {"a.txt": b"words"})
    for name, said in (
        ("short", "in the middle of"),
        ("packed", "not a plain tar"),
        ("text", "no image"),
        ("none", "no such file"),
    ):
        with pytest.raises(InputError, match=said):
            open_images(DataConfig(path=str(shards / f"{name}.tar")))
