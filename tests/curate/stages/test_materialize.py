import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lvd_curate.columns import LISTING, MODERATED
from lvd_curate.copy_detection.hashing import content_id
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.errors import InputError
from lvd_curate.inputs import table_images
from lvd_curate.inputs.table_images import ParquetTable
from lvd_curate.stages import materialize as stage
from lvd_curate.stages.ingest import list_images
from lvd_curate.stages.materialize import build_group, dataset_schema, materialize, split_by_bytes

PICKS = pl.List(pl.Struct({"seed_id": pl.String, "rank": pl.Int32, "similarity": pl.Float32}))


def rows_of(folder: Path) -> pl.DataFrame:
    listing = pl.concat(list_images("pool", "p", str(folder), folder))
    data = [(folder / path).read_bytes() for path in listing["path"]]
    picks = [[{"seed_id": "s", "rank": None, "similarity": 0.5}]] + [[] for _ in data[1:]]
    return listing.with_columns(
        id=pl.Series([content_id(item) for item in data]),
        bytes=pl.Series([len(item) for item in data]),
        seed=pl.lit(None, dtype=pl.String),
        retrieved_by=pl.Series(picks, dtype=PICKS),
        cluster=pl.Series([[n, 0] for n in range(len(data))], dtype=pl.List(pl.Int32)),
    ).sort("id")


def write(rows: pl.DataFrame, folder: Path, shard_bytes: int = 10**9) -> list[int]:
    done: list[int] = []

    @contextmanager
    def track(_: str, __: int, ___: int) -> Iterator[Callable[[int, int], None]]:
        yield lambda count, _: done.append(count)

    materialize(rows, folder, shard_bytes, InlineExecutor(), track)
    return done


def test_images_in_tables_are_read_once_for_many_shards(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted((world / "pool/a").iterdir())
    packed = [{"bytes": file.read_bytes(), "path": None} for file in files]
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"image": packed}), tmp_path / "in/part.parquet", row_group_size=4)
    listing = pl.concat(list_images("pool", "p", str(tmp_path / "in"), tmp_path))
    plain = rows_of(world / "pool/a").sort("path").drop("path", "file", "item", "size", "stamp", "fault")
    rows = plain.with_columns(listing.select("path", "file", "item", "size", "stamp", "fault"))
    shard_bytes = int(rows["bytes"].sum()) // 4
    monkeypatch.setattr(stage, "UNPACKED", 8)
    for name, images in (("tables", rows), ("files", rows_of(world / "pool/a"))):
        (tmp_path / name).mkdir()
        write(images, tmp_path / name / "out", shard_bytes)
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["out"]
    a, b = (pl.read_parquet(tmp_path / name / "out/data").drop("image") for name in ("tables", "files"))
    assert a.equals(b)
    images = pl.read_parquet(tmp_path / "tables/out/data")["image"].struct.field("bytes")
    assert [content_id(data) for data in images] == a["id"].to_list()


def test_images_in_tables_are_read_once_for_one_shard_of_many_row_groups(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted((world / "pool/a").iterdir())
    (tmp_path / "in").mkdir()
    packed = [{"bytes": file.read_bytes(), "path": None} for file in files]
    pq.write_table(pa.table({"image": packed}), tmp_path / "in/part.parquet")
    listing = pl.concat(list_images("pool", "p", str(tmp_path / "in"), tmp_path))
    columns = ("path", "file", "item", "size", "stamp", "fault")
    rows = rows_of(world / "pool/a").sort("path").with_columns(listing.select(columns))
    opened: list[Path] = []
    monkeypatch.setattr(stage, "ROW_GROUP", 5)
    monkeypatch.setattr(table_images, "open_table", lambda path: opened.append(path) or ParquetTable(path))
    write(rows, tmp_path / "out")
    assert opened == [tmp_path / "in/part.parquet"]


def test_datasets_opens_it_and_bytes_are_untouched(world: Path, tmp_path: Path) -> None:
    rows = rows_of(world / "pool/a")
    assert write(rows, tmp_path) == [30]
    opened = datasets.load_dataset("parquet", data_dir=str(tmp_path / "data"), split="train", cache_dir=tmp_path / "c")
    assert opened.column_names == ["id", "image", "source", "seed", "retrieved_by", "cluster"]
    assert isinstance(opened.features["image"], datasets.Image)
    raw = opened.cast_column("image", datasets.Image(decode=False))
    assert [content_id(row["image"]["bytes"]) for row in raw] == rows["id"].to_list()
    assert opened[0]["image"].size == Image.open(io.BytesIO(raw[0]["image"]["bytes"])).size
    assert sum(len(row["retrieved_by"]) for row in opened) == 1
    assert sorted(row["cluster"][0] for row in opened) == list(range(30))


def test_shards_are_even_and_their_row_groups_small(world: Path, tmp_path: Path) -> None:
    rows = rows_of(world / "pool/a")
    total = int(rows["bytes"].sum())
    assert sum(write(rows, tmp_path, total // 3 + 1)) == 30
    files = sorted((tmp_path / "data").iterdir())
    assert [file.name for file in files] == [f"train-0000{n}-of-00003.parquet" for n in range(3)]
    many = pl.concat([rows] * 9)
    write(many, tmp_path / "big")
    metadata = pq.read_metadata(tmp_path / "big/data/train-00000-of-00001.parquet")
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [100, 100, 70]


def test_splitting_keeps_order_and_loses_nothing() -> None:
    rows = pl.DataFrame({"n": range(10), "bytes": [1, 1, 1, 1, 50, 1, 1, 1, 1, 1]})
    parts = split_by_bytes(rows, 20)
    assert pl.concat(parts).equals(rows)
    assert len(split_by_bytes(rows, 1000)) == 1


def test_an_input_that_changed_meanwhile_is_refused(world: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.jpg").write_bytes((world / "pool/a/00.jpg").read_bytes())
    rows = rows_of(source)
    (source / "a.jpg").write_bytes(b"other")
    with pytest.raises(InputError, match=r"a\.jpg changed while the dataset was built"):
        write(rows, tmp_path / "out")
    assert list((tmp_path / "out/data").iterdir()) == []


def test_only_images_with_faces_are_written_anew(world: Path) -> None:
    files = sorted((world / "pool/a").iterdir())[:4]
    data = [file.read_bytes() for file in files]
    face = {"left": 0.2, "top": 0.2, "width": 0.5, "height": 0.5, "score": 0.9}
    given = pl.DataFrame([{"source": "p", "path": file.name, "file": bytes(file)} for file in files], schema=LISTING)
    rows = given.with_columns(
        id=pl.Series([content_id(item) for item in data]),
        seed=pl.lit(None, dtype=pl.String),
        retrieved_by=pl.Series([[]] * 4, dtype=PICKS),
        cluster=pl.Series([[0]] * 4, dtype=pl.List(pl.Int32)),
    )
    faces = pl.Series("faces", [[face], [], None, [face, face]], dtype=MODERATED["faces"])
    reordered = rows.with_columns(faces)[[3, 0, 2, 1]]
    table = build_group(reordered, dataset_schema())
    assert table["id"].to_pylist() == reordered["id"].to_list()  # of the original bytes, blurred or not
    written = [image["bytes"] for image in table["image"].to_pylist()]
    assert [content_id(item) for item in written[2:]] == reordered["id"].to_list()[2:]
    assert not set(written[:2]) & set(data)
    plain = build_group(rows, dataset_schema())
    assert [image["bytes"] for image in plain["image"].to_pylist()] == data


def test_bytes_are_checked_before_they_are_blurred(world: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes((world / "pool/a/00.jpg").read_bytes())
    face = {"left": 0.2, "top": 0.2, "width": 0.5, "height": 0.5, "score": 0.9}
    rows = pl.DataFrame([{"source": "p", "path": "a.jpg", "file": bytes(tmp_path / "a.jpg")}], schema=LISTING)
    rows = rows.with_columns(
        id=pl.lit(content_id(b"another file")), faces=pl.Series([[face]], dtype=MODERATED["faces"])
    )
    with pytest.raises(InputError, match=r"a\.jpg changed while the dataset was built"):
        build_group(rows, dataset_schema())


def test_tables_are_left_alone_when_all_shards_are_there(world: Path, tmp_path: Path) -> None:
    packed = [{"bytes": file.read_bytes(), "path": None} for file in sorted((world / "pool/a").iterdir())]
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"image": packed}), tmp_path / "in/part.parquet")
    listing = pl.concat(list_images("pool", "p", str(tmp_path / "in"), tmp_path))
    columns = ("path", "file", "item", "size", "stamp", "fault")
    rows = rows_of(world / "pool/a").sort("path").with_columns(listing.select(columns))
    shard_bytes = int(rows["bytes"].sum()) // 2
    done = write(rows, tmp_path / "out", shard_bytes)
    (tmp_path / "in/part.parquet").unlink()
    assert write(rows, tmp_path / "out", shard_bytes) == [count for count in done if count != 30]
