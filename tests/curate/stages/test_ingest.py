import io
import os
import tarfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lvd_curate.columns import LISTING
from lvd_curate.errors import InputError
from lvd_curate.inputs.locations import read_bytes
from lvd_curate.stages import ingest

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def list_images(role: str, source: str, location: str, downloads: Path) -> pl.DataFrame:
    """Collect the frames of a listing."""
    return pl.concat(ingest.list_images(role, source, location, downloads))


def test_folders_are_searched_to_the_bottom_and_sorted(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "a/x/1.png", "a.webp", "notes.txt", "a/label.json"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(name.encode())
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    listing = list_images("pool", "web", str(tmp_path / "in"), tmp_path / "work")
    assert listing.schema == LISTING
    assert listing["path"].to_list() == ["a.webp", "a/x/1.png", "b/2.JPG"]
    assert listing["source"].unique().to_list() == ["web"]
    assert list(read_bytes(listing)) == [b"a.webp", b"a/x/1.png", b"b/2.JPG"]


def test_names_need_not_be_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (tmp_path / name).write_bytes(b"x")
    listing = list_images("pool", "p", str(tmp_path), tmp_path)
    assert listing["path"].to_list() == ["caf\\xe9.jpg"]
    assert list(read_bytes(listing)) == [b"x"]


def test_a_changed_file_changes_its_stamp(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    before = list_images("pool", "p", str(tmp_path), tmp_path)["stamp"][0]
    (tmp_path / "a.jpg").write_bytes(b"y")
    os.utime(tmp_path / "a.jpg", (1, 1))
    assert list_images("pool", "p", str(tmp_path), tmp_path)["stamp"][0] != before


def test_the_right_to_read_a_file_is_part_of_its_stamp(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    stamps = []
    for mode in (0o000, 0o644):
        (tmp_path / "a.jpg").chmod(mode)
        stamps.append(list_images("pool", "p", str(tmp_path), tmp_path)["stamp"][0])
        time.sleep(0.02)  # the clock of file times ticks in milliseconds
    assert stamps[0] != stamps[1]


@pytest.mark.parametrize("place", ["x.parquet", "data/train-0.parquet", "part.parquet"])
def test_parquet_rows_are_files(tmp_path: Path, place: str) -> None:
    file = tmp_path / "in" / place
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"image": pa.array([b"a", b"b"], pa.binary())}), file)
    root = file if place == "x.parquet" else tmp_path / "in"
    listing = list_images("seeds", "s", str(root), tmp_path)
    assert listing["path"].to_list() == [f"{place}#0", f"{place}#1"]
    assert list(read_bytes(listing)) == [b"a", b"b"]


def test_a_dataset_folder_is_its_data_and_not_its_lineage(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": pa.array([b"a"], pa.binary())}), tmp_path / "data/train-0.parquet")
    pq.write_table(pa.table({"id": ["x"]}), tmp_path / "lineage.parquet")
    assert list_images("pool", "p", str(tmp_path), tmp_path)["path"].to_list() == ["data/train-0.parquet#0"]


def test_empty_and_foreign_places_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the pool set 'p' is empty"):
        list_images("pool", "p", str(tmp_path), tmp_path)
    with pytest.raises(InputError, match="the pool set 'p' names no place"):
        list_images("pool", "p", " ", tmp_path)
    (tmp_path / "a.md").write_text("x")
    with pytest.raises(InputError, match=r"a\.md is neither a folder nor a file of images; give a folder"):
        list_images("pool", "p", str(tmp_path / "a.md"), tmp_path)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="no readable Parquet file"):
        list_images("pool", "p", str(tmp_path / "bad.parquet"), tmp_path)
    with pytest.raises(InputError, match="no folder or file at /no/such/folder/here"):
        list_images("pool", "p", "/no/such/folder/here", tmp_path)


def test_rows_stream_in_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "FRAME", 4)
    for number in range(10):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    frames = list(ingest.list_images("pool", "p", str(tmp_path), tmp_path))
    assert [len(frame) for frame in frames] == [4, 4, 2]
    assert all(frame.schema == LISTING for frame in frames)


def write_tar(file: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(file, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_of_a_folder_everything_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "in"
    (root / "b").mkdir(parents=True)
    (root / "a.jpg").write_bytes(b"1")
    write_tar(root / "b/x.tar", {"k.jpg": b"2", "k.json": b"{}", "l.png": b"3"})
    pq.write_table(pa.table({"image": pa.array([b"4"])}), root / "b/y.parquet")
    pq.write_table(pa.table({"caption": ["no image"]}), root / "metadata.parquet")
    (root / "notes.txt").write_text("a.jpg")
    os.mkfifo(root / "pipe.tar")
    with caplog.at_level("INFO"):
        listing = list_images("pool", "p", str(root), tmp_path)
    assert listing["path"].to_list() == ["a.jpg", "b/x.tar#k.jpg", "b/x.tar#l.png", "b/y.parquet#0", "pipe.tar"]
    *data, pipe = read_bytes(listing)
    assert data == [b"1", b"2", b"3", b"4"]
    assert str(pipe) == "no regular file"
    assert "all of it counts: 1 image files, 1 tables, 1 tars" in caplog.text
    assert "2 files are no input (1 tables without image bytes, 1 .txt)" in caplog.text


def test_a_folder_of_tables_without_images_names_one(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["no image"]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"x\.parquet: no column of image bytes; it has caption"):
        list_images("pool", "p", str(tmp_path), tmp_path)


@pytest.mark.parametrize("pattern", ["s/{00..01}.tar", "s/*.tar", "{s,t}/0*.tar"])
def test_patterns_of_tars(tmp_path: Path, pattern: str) -> None:
    for folder in ("s", "t"):
        (tmp_path / folder).mkdir()
        for number in range(2):
            write_tar(tmp_path / folder / f"{number:02d}.tar", {"k.jpg": b"%d" % number})
    listing = list_images("pool", "p", str(tmp_path / pattern), tmp_path)
    assert list(read_bytes(listing)) == [b"0", b"1"] * (2 if "t}" in pattern else 1)
    prefix = "s/" if "t}" in pattern else ""
    assert listing["path"][0] == f"{prefix}00.tar#k.jpg"


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar.zst"])
def test_compressed_archives_are_refused(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / name).write_bytes(b"")
    for place in (tmp_path / name, tmp_path, tmp_path / "*"):
        with pytest.raises(InputError, match=f"{name} is compressed, so no image in it can be read alone; unpack it"):
            list_images("pool", "p", str(place), tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"")
    assert len(list_images("pool", "p", str(tmp_path), tmp_path)) == 1
    assert "is compressed" in caplog.text


@pytest.mark.parametrize("split", [None, "train"])
def test_a_saved_dataset_is_the_files_it_names(tmp_path: Path, split: str | None) -> None:
    values = [{"bytes": b"%d" % n, "path": f"{n}.png"} for n in range(3)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = pa.table({"image": pa.array(values, IMAGE), "label": range(3)})
    saved = datasets.Dataset(table.cast(features.arrow_schema))
    whole = saved if split is None else datasets.DatasetDict({split: saved})
    whole.save_to_disk(tmp_path / "in")
    folder = tmp_path / "in" / (split or "")
    (stored,) = folder.glob("*.arrow")
    (folder / "cache-1234.arrow").write_bytes(stored.read_bytes())
    listing = list_images("pool", "p", str(tmp_path / "in"), tmp_path)
    prefix = f"{split}/" if split else ""
    assert listing["path"].to_list() == [f"{prefix}{stored.name}#{n}/{n}.png" for n in range(3)]
    assert list(read_bytes(listing)) == [b"0", b"1", b"2"]


def test_a_list_names_its_images(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "list.txt").write_text("a.jpg\ngone.jpg\n")
    listing = list_images("pool", "p", str(tmp_path / "list.txt"), tmp_path)
    assert listing["path"].to_list() == ["a.jpg", "gone.jpg"]
    here, gone = read_bytes(listing)
    assert here == b"a"
    assert isinstance(gone, FileNotFoundError)


def test_one_image_is_a_set(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    assert list_images("pool", "p", str(tmp_path / "a.jpg"), tmp_path)["path"].to_list() == ["a.jpg"]


def test_hub_ids_are_streamed_once_with_their_original_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str]] = []

    def rows() -> Iterator[dict[str, Any]]:
        yield from ({"label": n, "picture": {"bytes": b"byte %d" % n, "path": None}} for n in range(3))

    def load(name: str, split: str, streaming: bool) -> datasets.IterableDataset:
        calls.append((name, split))
        features = datasets.Features({"label": datasets.Value("int64"), "picture": datasets.Image()})
        return datasets.IterableDataset.from_generator(rows, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load)
    for _ in range(2):
        listing = list_images("pool", "p", "hf:owner/name:test", tmp_path)
        assert list(read_bytes(listing)) == [b"byte 0", b"byte 1", b"byte 2"]
    assert calls == [("owner/name", "test")]
    for place in ("hf:a/b-c", "hf:a-b/c"):
        list_images("pool", "p", place, tmp_path)
    assert calls[1:] == [("a/b-c", "train"), ("a-b/c", "train")]


def test_a_killed_download_goes_on_behind_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def rows(stop: int | None) -> Iterator[dict[str, Any]]:
        for number in range(5):
            if number == stop:
                raise KeyboardInterrupt
            read.append(number)
            yield {"image": {"bytes": b"%d" % number, "path": f"{number}.png"}}

    def load(stop: int | None, *_: object, **__: object) -> datasets.IterableDataset:
        features = datasets.Features({"image": datasets.Image()})
        return datasets.IterableDataset.from_generator(rows, features=features, gen_kwargs={"stop": stop})

    monkeypatch.setattr(ingest, "DOWNLOAD_ROWS", 2)
    monkeypatch.setattr(datasets, "load_dataset", partial(load, 3))
    with pytest.raises(KeyboardInterrupt):
        list_images("pool", "p", "hf:owner/name", tmp_path)
    (draft,) = tmp_path.glob("*.partial")
    (part,) = draft.glob("part-*.parquet")
    before = part.stat()
    monkeypatch.setattr(datasets, "load_dataset", partial(load, None))
    listing = list_images("pool", "p", "hf:owner/name", tmp_path)
    assert list(read_bytes(listing)) == [b"0", b"1", b"2", b"3", b"4"]
    assert listing["path"].to_list()[::4] == ["part-000000.parquet#0/0.png", "part-000002.parquet#0/4.png"]
    (folder,) = tmp_path.glob("hf-*")
    assert (folder / part.name).stat().st_mtime_ns == before.st_mtime_ns


def test_a_hub_that_cannot_be_reached_names_the_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(InputError, match=r"owner/nothing-here .*Couldn't reach the Hub.*hf:OWNER/NAME"):
        list_images("pool", "p", "hf:owner/nothing-here", tmp_path)


def test_names_below_the_root_of_the_file_system_keep_their_first_letter(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    for place in (tmp_path, tmp_path / "a.jpg"):
        assert [entry.path for entry in ingest.Finder().find_in(place, Path("/"))] == [str(tmp_path / "a.jpg")[1:]]
