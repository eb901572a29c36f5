"""Finished work that need not be done twice: tables under names that say exactly what they were made from.

An artifact is a folder of Parquet shards. Its fingerprint covers the stage, the stage's version, its config and the
fingerprints of its inputs, so a changed knob makes a new artifact and an unchanged one is opened. It is built in a
folder ending in `.partial`, one whole shard file at a time, and renamed when complete: the rename is the completion
mark, and a build that was killed goes on after its last whole shard.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import polars as pl
import pyarrow.parquet as pq

from lvd_curate.errors import InputError


class Mapper(Protocol):
    """What an executor offers."""

    def map(self, function: Callable[[Any], Any], shards: Sequence[Any]) -> Iterator[Any]:
        """Yield function(shard) for every shard, in order."""
        ...


class Workbench(NamedTuple):
    """What a stage that cuts its own work into pieces is given."""

    folder: Path  # for whole files (`write_whole`): a run that was killed finds them here and goes on behind them
    executor: Mapper
    max_bytes: int  # of memory that the stage may take, all processes together


@dataclass(frozen=True)
class Artifact:
    """A complete table on disk."""

    path: Path
    fingerprint: str

    def files(self) -> list[Path]:
        """Return the shards, in order."""
        return sorted(self.path.glob("shard-*.parquet"))

    def table(self, columns: list[str] | None = None) -> pl.DataFrame:
        """Read all shards, in order; only some columns where they are named."""
        return pl.concat([pl.read_parquet(file, columns=columns) for file in self.files()])

    def matrix(self, column: str) -> Path:
        """Return the .npy file that holds a column of equally long vectors, a row for every row of the table."""
        return self.path / f"{column}.npy"


class ArtifactStore:
    """The artifacts of one dataset's build, in one folder that may be deleted when the dataset is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open_or_build(
        self, name: str, stage: Callable[[], pl.DataFrame], *, version: int, config: object, inputs: object
    ) -> Artifact:
        """Open the artifact with this fingerprint, or build it from the one table that `stage()` returns."""
        fingerprint = compute_fingerprint(name, version, config, inputs)
        path = self.folder / f"{name}-{fingerprint[:16]}"
        if not path.exists():
            partial_path = self.start(path)
            write_table(stage(), partial_path / "shard-00000.parquet")
            publish_folder(partial_path, path)
        return Artifact(path, fingerprint)

    def open_or_build_shards(
        self,
        name: str,
        stage: Callable[[pl.DataFrame], pl.DataFrame],
        shards: Sequence[pl.DataFrame],
        executor: Mapper,
        *,
        version: int,
        config: object,
        inputs: object,
        track: Callable[[str, int], AbstractContextManager[Callable[[int], None]]],
    ) -> Artifact:
        """Open the artifact with this fingerprint, or build it shard by shard; whole shards of a killed run stay.

        `stage` must be importable by name and return one row per row of its shard; `track` shows how far the work is.
        """
        fingerprint = compute_fingerprint(name, version, config, inputs)
        path = self.folder / f"{name}-{fingerprint[:16]}"
        if not path.exists():
            partial_path = self.start(path)
            jobs = [(shard, partial_path / f"shard-{number:05d}.parquet") for number, shard in enumerate(shards)]
            with track(name, sum(map(len, shards))) as advance:
                for rows in executor.map(partial(build_shard, stage), jobs):
                    advance(rows)
            publish_folder(partial_path, path)
        return Artifact(path, fingerprint)

    def start(self, path: Path) -> Path:
        """Return the folder in which `path` is built."""
        partial_path = path.with_name(path.name + ".partial")
        partial_path.mkdir(parents=True, exist_ok=True)
        return partial_path


def build_shard(stage: Callable[[pl.DataFrame], pl.DataFrame], job: tuple[pl.DataFrame, Path]) -> int:
    """Write one shard's table unless it is there; return its number of rows."""
    shard, file = job
    if not file.exists():
        write_table(stage(shard), file)
    rows = pq.read_metadata(file).num_rows
    assert rows == len(shard), f"{file}: {rows} rows for a shard of {len(shard)}"
    return rows


def compute_fingerprint(*parts: object) -> str:
    """Hash plain values and config dataclasses into 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=asdict).encode()).hexdigest()


def write_table(table: pl.DataFrame, file: Path) -> None:
    """Write a table as Parquet, whole or not at all."""
    with write_whole(file) as stream:
        pq.write_table(table.to_arrow(), stream, compression="zstd")


@contextmanager
def write_whole(file: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when it is complete and on disk."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with open(draft, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)


def publish_folder(draft: Path, path: Path) -> None:
    """Rename a complete folder into place, after removing what a killed writer may have left in it."""
    for stray in draft.rglob(".*.tmp"):
        stray.unlink()
    sync_folder(draft)
    os.rename(draft, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder against a second run; the system lets go of it when this process ends, however it ends."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another run is building this dataset; wait for it or end it") from None
        yield
