import json
from pathlib import Path

import pytest

from lvd_curate.config import EmbedConfig
from lvd_curate.errors import InputError
from lvd_curate.provenance import check_output, check_published, library_versions
from lvd_curate.recipes import BuildConfig


def config_for(pool: Path) -> BuildConfig:
    return BuildConfig(pool={"p": str(pool)}, seeds={"s": "seeds"}, embed=EmbedConfig(encoder="x"))


def test_a_free_place_is_fine_and_one_inside_an_input_is_not(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    config = config_for(tmp_path / "pool")
    check_output(config, tmp_path / "out")
    for inside in (tmp_path / "pool/out", tmp_path / "pool", tmp_path / "x/../pool/out"):
        with pytest.raises(InputError, match="lies inside the pool set 'p'"):
            check_output(config, inside)
    with pytest.raises(InputError, match="there is no folder"):
        check_output(config, tmp_path / "no/such/out")


def test_what_lies_there_must_be_this_recipes_dataset(tmp_path: Path) -> None:
    config, out = config_for(tmp_path / "pool"), tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError, match="not this recipe's dataset"):
        check_output(config, out)
    (out / "provenance.json").write_text(json.dumps({"config": config.content(), "fingerprint": "f"}))
    check_output(config, out)
    check_published(out, "f", set_aside=False)
    with pytest.raises(InputError, match="other inputs"):
        check_published(out, "g", set_aside=False)


@pytest.mark.parametrize("data", [b"{cut", b"\xff\xfe\x00", b"[1, 2]", b'"text"'])
def test_a_foreign_provenance_file_is_not_ours(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/provenance.json").write_bytes(data)
    with pytest.raises(InputError, match="not this recipe's dataset"):
        check_output(config_for(tmp_path / "pool"), tmp_path / "out")


def test_versions_name_what_may_change_a_byte() -> None:
    assert {"python", "lvd-curate", "pillow", "torch"} <= set(library_versions())


def test_a_dataset_that_lacks_failed_shards_is_not_taken_for_whole(tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text(json.dumps({"fingerprint": "f", "set_aside": ["embed-without-1234"]}))
    check_published(tmp_path, "f", set_aside=True)
    with pytest.raises(InputError, match=r"embed-without-1234.*move it away to try them again"):
        check_published(tmp_path, "f", set_aside=False)
