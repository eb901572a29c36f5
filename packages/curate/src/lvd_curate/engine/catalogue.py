"""Every input file, on disk in shards: where it lies (LISTING) and what it turned out to be (SCREENED).

A file's `row` is its place in the whole listing. Stages hold the narrow columns they need in memory and send pieces of
the listing, as file names and row numbers, to the processes that read the images.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from lvd_curate.columns import LISTING
from lvd_curate.engine.artifacts import Artifact, fingerprint_rows, is_whole, publish_artifact, write_table

# Rows per shard: small ones first, so that a small job keeps every core busy and a large one makes few files.
RAMP = ((16, 256), (16, 1024))
FULL = 8192


@dataclass(frozen=True)
class CataloguePiece:
    """Some rows of one listing shard, with the columns of SCREENED where that is done."""

    files: tuple[Path, ...]  # of the same rows: the listing, and what was found out about them
    take: np.ndarray | None = field(default=None)  # int64, rows inside the shard; None: all
    count: int = 0

    def __len__(self) -> int:
        return self.count

    def __str__(self) -> str:
        path = self.load()["path"]
        return f"{path[0]} to {path[-1]}"

    def load(self) -> pl.DataFrame:
        """Read the rows."""
        table = pl.concat([pl.read_parquet(file) for file in self.files], how="horizontal")
        return table if self.take is None else table[self.take]


@dataclass(frozen=True)
class Catalogue:
    """All shards of a listing, with those of the artifacts that describe the same rows."""

    artifacts: tuple[Artifact, ...]

    def files(self) -> list[tuple[Path, ...]]:
        """Return the files of each shard."""
        return list(zip(*(artifact.files() for artifact in self.artifacts), strict=True))

    def counts(self) -> list[int]:
        """Return the rows of each shard."""
        return [pq.read_metadata(files[0]).num_rows for files in self.files()]

    def table(self, columns: Iterable[str]) -> pl.DataFrame:
        """Return these columns of every file, and its `row`."""
        parts = []
        for artifact in self.artifacts:
            there = pq.read_schema(artifact.files()[0]).names
            wanted = [name for name in columns if name in there]
            if wanted:
                parts.append(artifact.table(wanted))
        return pl.concat(parts, how="horizontal").with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))

    def shards(self) -> Iterator[tuple[slice, pl.DataFrame]]:
        """Yield every shard's place among the rows and its whole table."""
        start = 0
        for files, count in zip(self.files(), self.counts(), strict=True):
            yield slice(start, start + count), CataloguePiece(files, None, count).load()
            start += count

    def pieces(self, rows: np.ndarray | None = None) -> list[CataloguePiece]:
        """Cut ascending rows (all, unless given) into pieces, none of which crosses a shard."""
        if rows is None:
            return [CataloguePiece(files, None, n) for files, n in zip(self.files(), self.counts(), strict=True)]
        assert (np.diff(rows) > 0).all(), "rows ascend"
        starts = np.concatenate([[0], np.cumsum(self.counts())])
        ends = np.searchsorted(rows, starts)
        found = zip(self.files(), starts, ends, ends[1:], strict=False)
        return [CataloguePiece(files, rows[a:b] - start, int(b - a)) for files, start, a, b in found if b > a]

    def load(self, rows: np.ndarray) -> pl.DataFrame:
        """Read all columns of some rows, which ascend."""
        return pl.concat([piece.load() for piece in self.pieces(rows)])

    def fingerprint(self, columns: Sequence[str]) -> str:
        """Hash these columns of every row."""
        return fingerprint_rows(pl.DataFrame([fingerprint_rows(table.select(columns)) for _, table in self.shards()]))


def write_listing(frames: Iterable[pl.DataFrame], folder: Path) -> None:
    """Write listed rows as shards `folder/shard-*.parquet`, whatever the size of the frames they come in."""
    waiting: list[pl.DataFrame] = []
    number = 0
    for frame in frames:
        waiting.append(frame)
        while sum(map(len, waiting)) >= shard_rows(number):
            table = pl.concat(waiting)
            write_table(table[: shard_rows(number)], folder / f"shard-{number:05d}.parquet")
            waiting, number = [table[shard_rows(number) :]], number + 1
    if sum(map(len, waiting)):
        write_table(pl.concat(waiting), folder / f"shard-{number:05d}.parquet")


def shard_rows(number: int) -> int:
    """Return how many rows the shard of this number has."""
    for shards, rows in RAMP:
        if number < shards:
            return rows
        number -= shards
    return FULL


def store_listing(frames: Iterable[pl.DataFrame], folder: Path) -> Artifact:
    """Write a fresh listing into the work folder, under a name that says what it holds; an equal one stays."""
    draft = folder / "listing.partial"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    write_listing(frames, draft)
    fingerprint = Catalogue((Artifact(draft, ""),)).fingerprint(LISTING.names())
    path = folder / f"listing-{fingerprint[:16]}"
    if is_whole(path):
        shutil.rmtree(draft)
    else:
        publish_artifact(draft, path)
    return Artifact(path, fingerprint)
