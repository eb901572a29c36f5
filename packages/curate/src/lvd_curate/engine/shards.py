"""Work cut into shards, each finished for good: a table per shard, and columns of equally long vectors as one matrix.

A shard's Parquet file is written last and whole: it is the mark that the shard is done. Vectors (embeddings,
thumbnails) lie beside it as raw rows until all shards are there; then they become one .npy file that later stages map.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from lvd_curate.engine.artifacts import PIECES, Mapper, write_table, write_whole
from lvd_curate.errors import InputError, ShardsFailed

BLOCK = 1024  # rows of a shard in memory with their vectors, whatever the shard's size
Fallback = Callable[[pl.DataFrame, str], pl.DataFrame]  # rows and an error -> the rows set aside
Track = Callable[[str, int, int], AbstractContextManager[Callable[[int, int], None]]]


class Piece(Protocol):
    """Rows of a table on disk, cheap to send to the process that reads them."""

    def load(self) -> pl.DataFrame:
        """Read the rows."""
        ...

    def __len__(self) -> int: ...

    def __str__(self) -> str: ...


class FailedShards(InputError):
    """Shards that failed three times each, with the folder that holds all others."""

    def __init__(self, message: str, errors: Mapping[int, str], folder: Path) -> None:
        super().__init__(message)
        self.errors = errors
        self.folder = folder


class ShardStage(NamedTuple):
    """A function from the rows of a piece to as many rows, importable by name, and what is special about its table."""

    run: Callable[[pl.DataFrame], pl.DataFrame]
    matrices: Mapping[str, str] = {}  # columns of equally long bytes that become a .npy file, with their dtype
    bad: pl.Expr = pl.lit(False)  # which of its rows stand for images it could do nothing with
    fallback: Fallback | None = None


def build_shards(
    name: str, stage: ShardStage, pieces: Sequence[Piece], executor: Mapper, track: Track, folder: Path
) -> None:
    """Fill an artifact's folder, a shard per piece; shards that a killed run finished stay.

    A shard that fails three times does not stop the others; in the end `FailedShards` names those that did.
    """
    jobs = list_jobs(pieces, folder)
    try:
        with track(name, sum(map(len, pieces)), len(pieces)) as advance:
            for rows, bad in executor.map(partial(build_shard, stage), jobs):
                advance(rows, bad)
    except ShardsFailed as failed:
        raise FailedShards(describe_failures(name, pieces, failed, stage), failed.errors, folder) from failed
    join_matrices(stage, folder)


def build_without(stage: ShardStage, pieces: Sequence[Piece], failed: FailedShards, folder: Path) -> None:
    """Fill a second folder with what the first has, and in the place of its failed shards what the fallback says.

    The first stays as it is: a run that does not set them aside tries the failed shards again.
    """
    assert stage.fallback is not None
    for file in [*failed.folder.glob("shard-*.parquet"), *(failed.folder / PIECES).iterdir()]:
        target = folder / file.relative_to(failed.folder)
        if not target.exists():
            link_file(file, target)
    jobs = list_jobs(pieces, folder)
    for number, error in failed.errors.items():
        build_shard(stage._replace(run=partial(give_up, stage.fallback, error)), jobs[number])
    join_matrices(stage, folder)


def list_jobs(pieces: Sequence[Piece], folder: Path) -> list[tuple[Piece, Path]]:
    """Name the shard of each piece."""
    return [(piece, folder / f"shard-{number:05d}.parquet") for number, piece in enumerate(pieces)]


def link_file(file: Path, target: Path) -> None:
    """Give a finished file a second name, or copy it where the file system knows no such thing."""
    try:
        os.link(file, target)
    except OSError:
        with write_whole(target) as stream, open(file, "rb") as source:
            shutil.copyfileobj(source, stream)


def join_matrices(stage: ShardStage, folder: Path) -> None:
    """Join the raw rows of all shards."""
    for column, dtype in stage.matrices.items():
        join_matrix(folder, column, np.dtype(dtype))


def give_up(fallback: Fallback, error: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Return what a stage says of rows that it could do nothing with."""
    return fallback(rows, error)


def describe_failures(name: str, pieces: Sequence[Piece], failed: ShardsFailed, stage: ShardStage) -> str:
    """Say which shards failed and what can be done."""
    listed = "; ".join(f"shard {number} ({pieces[number]}): {error}" for number, error in failed.errors.items())
    way = ", or execution.set_aside=true to go on without these images" if stage.fallback is not None else ""
    return f"{name}: {listed}. Each failed three times; all others are finished. Give the same command again{way}"


def build_shard(stage: ShardStage, job: tuple[Piece, Path]) -> tuple[int, int]:
    """Write one shard's table unless it is there; return how many rows it has and how many are bad."""
    piece, file = job
    if file.exists():
        return len(piece), int(pl.scan_parquet(file).select(stage.bad.sum()).collect().item())
    rows = piece.load()
    with ExitStack() as opened:
        raw = {name: opened.enter_context(RawRows.open(file, name)) for name in stage.matrices}
        parts = [run_block(stage, rows[start : start + BLOCK], raw) for start in range(0, len(rows), BLOCK)]
    table = pl.concat(parts)
    assert len(table) == len(piece), f"{file}: {len(table)} rows for a shard of {len(piece)}"
    write_table(table, file)
    return len(table), int(table.select(stage.bad.sum()).item())


def run_block(stage: ShardStage, rows: pl.DataFrame, raw: Mapping[str, "RawRows"]) -> pl.DataFrame:
    """Run a stage on some rows; vectors go to their files, and what stays in the table is whether there is one."""
    table = stage.run(rows)
    for column, target in raw.items():
        target.write(table[column])
        table = table.with_columns(pl.col(column).is_not_null())
    return table


class RawRows:
    """Equally long bytes of one column, one behind another in a file; zeros where there are none."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.width = 0  # bytes; unknown until the first value
        self.owed = 0  # rows without a value before it

    @classmethod
    @contextmanager
    def open(cls, shard: Path, column: str) -> Iterator["RawRows"]:
        """Open the file beside a shard, to appear whole."""
        with write_whole(raw_file(shard, column)) as stream:
            yield cls(stream)

    def write(self, values: pl.Series) -> None:
        """Append some rows."""
        self.width = self.width or int(values.bin.size().max() or 0)  # type: ignore[arg-type]
        if not self.width:
            self.owed += len(values)
            return
        self.stream.write(bytes(self.owed * self.width))
        self.owed = 0
        self.stream.write(b"".join(value if value is not None else bytes(self.width) for value in values))


def raw_file(shard: Path, column: str) -> Path:
    """Name the raw rows of a shard's column."""
    return shard.parent / PIECES / f"{shard.stem}.{column}"


def join_matrix(folder: Path, column: str, dtype: np.dtype) -> None:
    """Write the raw rows of all shards, in order, as one .npy file [M, D]; D is 0 where no row has a value."""
    file = folder / f"{column}.npy"
    if file.exists():
        return
    shards = sorted(folder.glob("shard-*.parquet"))
    counts = [pq.read_metadata(shard).num_rows for shard in shards]
    raw = [raw_file(shard, column) for shard in shards]
    width = max((part.stat().st_size // count for part, count in zip(raw, counts, strict=True)), default=0)
    with write_whole(file) as stream:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
        shape = (sum(counts), width // dtype.itemsize)
        np.lib.format.write_array_header_1_0(stream, header | {"shape": shape})
        for part, count in zip(raw, counts, strict=True):
            with open(part, "rb") as rows:
                shutil.copyfileobj(rows, stream, 1 << 20)
            stream.write(bytes(width * count - part.stat().st_size))
