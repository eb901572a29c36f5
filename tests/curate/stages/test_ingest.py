import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lvd_curate.columns import LISTING
from lvd_curate.errors import InputError
from lvd_curate.locations import read_bytes
from lvd_curate.stages.ingest import list_images


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
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="neither a folder nor a Parquet file"):
        list_images("pool", "p", str(tmp_path / "a.txt"), tmp_path)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="no readable Parquet file"):
        list_images("pool", "p", str(tmp_path / "bad.parquet"), tmp_path)
    with pytest.raises(InputError, match="no folder or file at /no/such/folder/here"):
        list_images("pool", "p", "/no/such/folder/here", tmp_path)


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


def test_a_hub_that_cannot_be_reached_names_the_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(InputError, match=r"owner/nothing-here .*Couldn't reach the Hub.*hf:OWNER/NAME"):
        list_images("pool", "p", "owner/nothing-here", tmp_path)
