"""Materialize: write the chosen images as Dataset v1, original bytes untouched but where faces are to be blurred."""

import os
import shutil
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lvd_curate.copy_detection.hashing import content_id
from lvd_curate.engine.artifacts import Mapper, write_whole
from lvd_curate.engine.shards import Track
from lvd_curate.errors import InputError
from lvd_curate.inputs.locations import read_bytes
from lvd_curate.models.blurring import blur_faces

VERSION = 3
UNPACKED = 5000  # images copied out of tables into one file
ROW_GROUP = 100  # images: what a reader that wants one image has to load


def materialize(images: pl.DataFrame, folder: Path, shard_bytes: int, executor: Mapper, track: Track) -> None:
    """Write `folder/data/train-*.parquet` in the order of the ids; shards that a killed run finished stay.

    `images`, in the order of the listing, carry LISTING, id, bytes, seed, retrieved_by and cluster. Their `faces` (of
    MODERATED) are blurred, where they carry any; the id stays that of the original bytes.
    """
    schema = dataset_schema()
    (folder / "data").mkdir(parents=True, exist_ok=True)
    shards = split_by_bytes(images.sort("id"), shard_bytes)
    names = [f"train-{number:05d}-of-{len(shards):05d}.parquet" for number in range(len(shards))]
    files = [folder / "data" / name for name in names]
    unpacked = folder.with_name(f"{folder.name}-unpacked")
    packed = pl.col("item").is_not_null() & pl.col("size").is_null()  # in Parquet and Arrow files
    tables = images.filter(packed)
    groups = max(len(shards), len(images) // ROW_GROUP)  # each would read nearly every table again
    if groups > 1 and len(tables) and not all(file.exists() for file in files):
        images = pl.concat([images.filter(~packed), *unpack_tables(tables, unpacked, executor, track)])
        shards = split_by_bytes(images.sort("id"), shard_bytes)
    jobs = list(zip(shards, files, strict=True))
    with track("materialize", len(images), len(shards)) as advance:
        for count in executor.map(partial(write_shard, schema=schema), jobs):
            advance(count, 0)
    shutil.rmtree(unpacked, ignore_errors=True)


def unpack_tables(tables: pl.DataFrame, folder: Path, executor: Mapper, track: Track) -> list[pl.DataFrame]:
    """Copy images that lie in tables into plain files, each table read once from start to end; say where they lie.

    What is written is in the order of the ids: each row group of it would otherwise read nearly every table again.
    """
    folder.mkdir(exist_ok=True)
    parts = [tables[start : start + UNPACKED] for start in range(0, len(tables), UNPACKED)]
    jobs = [(part, folder / f"{number:06d}") for number, part in enumerate(parts)]
    moved = []
    with track("unpack", len(tables), len(jobs)) as advance:
        for part in executor.map(unpack, jobs):
            advance(len(part), 0)
            moved.append(part)
    return moved


def unpack(job: tuple[pl.DataFrame, Path]) -> pl.DataFrame:
    """Copy the bytes of some rows behind one another into a file, unless it is whole already; say where they lie."""
    rows, file = job
    if not file.exists():
        with write_whole(file) as stream:
            for path, size, data in zip(rows["path"], rows["bytes"], read_bytes(rows), strict=True):
                if isinstance(data, OSError) or len(data) != size:
                    raise InputError(f"{path} changed while the dataset was built; start the same command again")
                stream.write(data)
    return rows.with_columns(
        file=pl.lit(os.fsencode(file)), item=pl.col("bytes").cum_sum() - pl.col("bytes"), size=pl.col("bytes")
    )


def dataset_schema() -> pa.Schema:
    """Return the columns of Dataset v1 with the feature types that `datasets` reads back."""
    from datasets import Features, Image, List, Value

    features = {
        "id": Value("string"),
        "image": Image(),
        "source": Value("string"),
        "seed": Value("string"),
        "retrieved_by": List({"seed_id": Value("string"), "rank": Value("int32"), "similarity": Value("float32")}),
        "cluster": List(Value("int32")),
    }
    return Features(features).arrow_schema


def split_by_bytes(rows: pl.DataFrame, shard_bytes: int) -> list[pl.DataFrame]:
    """Cut rows, in their order, into the fewest even shards of about `shard_bytes` of image bytes; at least one."""
    count = max(1, -(-int(rows["bytes"].sum()) // shard_bytes))
    ends = rows["bytes"].cum_sum()
    number = ((ends - rows["bytes"]) * count // max(1, int(rows["bytes"].sum()))).alias("shard")
    parts = rows.with_columns(number).partition_by("shard", maintain_order=True, include_key=False)
    return parts or [rows]


def write_shard(job: tuple[pl.DataFrame, Path], schema: pa.Schema) -> int:
    """Write one shard, row group by row group, unless it is there; return its number of rows."""
    rows, file = job
    if not file.exists():
        with write_whole(file) as stream, pq.ParquetWriter(stream, schema, compression="none") as out:
            for start in range(0, len(rows), ROW_GROUP):
                out.write_table(build_group(rows[start : start + ROW_GROUP], schema))
    return len(rows)


def name_image(path: str) -> str:
    """Return the bare name of an image: the last part of its path, or of its member in a tar."""
    return os.path.basename(path.rpartition(".tar#")[2])


def build_group(rows: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """Read the bytes of some rows, in reading order, and lay them beside their columns."""
    faces = rows["faces"].to_list() if "faces" in rows.columns else [None] * len(rows)
    placed = rows.with_row_index("place").sort("file", "item", nulls_last=True)
    images: list[dict[str, object]] = [{} for _ in range(len(rows))]
    for place, identity, path, data in zip(
        placed["place"], placed["id"], placed["path"], read_bytes(placed), strict=True
    ):
        if isinstance(data, OSError) or content_id(data) != identity:
            raise InputError(f"{path} changed while the dataset was built; start the same command again")
        shown = blur_faces(data, faces[place]) if faces[place] else data
        images[place] = {"bytes": shown, "path": name_image(path)}
    columns = rows.select("id", "source", "seed", "retrieved_by", "cluster").to_arrow()
    arrays = {name: columns.column(name) for name in columns.column_names} | {"image": pa.array(images)}
    return pa.table({field.name: arrays[field.name].cast(field.type) for field in schema}, schema=schema)
