"""Finished work that need not be done twice: tables under names that say exactly what they were made from.

An artifact is a folder of Parquet shards. Its fingerprint covers the stage, the stage's version, its config and the
fingerprints of its inputs, so a changed knob makes a new artifact and an unchanged one is opened. It is built in a
folder ending in `.partial`, one whole shard file at a time, and renamed when complete: the rename is the completion
mark, and a build that was killed goes on after its last whole shard.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
import polars as pl
import polars.selectors as cs
import pyarrow.parquet as pq

from lvd_curate.errors import InputError

HASHED = 1 << 16  # rows of a table that are text at a time while it is hashed
CHECKSUMS = "checksums.json"
READERS = 8  # files whose checksums are reckoned at once
PIECES = "pieces"  # what a stage needs while it works, inside the folder it builds

logger = logging.getLogger(__name__)


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
        self, name: str, build: Callable[[Path], None], *, version: int, config: object, inputs: object
    ) -> Artifact:
        """Open the artifact with this fingerprint, or have `build` fill its folder.

        A folder that a killed run began is handed to `build` as it was left. Whatever it puts beside the artifact, in
        the same folder's `pieces/`, is gone when the artifact is complete.
        """
        fingerprint = compute_fingerprint(name, version, config, inputs)
        path = self.folder / f"{name}-{fingerprint[:16]}"
        if not is_whole(path):
            draft = draft_of(path)
            (draft / PIECES).mkdir(parents=True, exist_ok=True)
            build(draft)
            shutil.rmtree(draft / PIECES)
            publish_artifact(draft, path)
        return Artifact(path, fingerprint)


def publish_artifact(draft: Path, path: Path) -> None:
    """Note the checksums of a complete folder's files, and rename it into place."""
    names = [file.name for file in sorted(draft.iterdir()) if not file.name.startswith(".") and file.name != CHECKSUMS]
    with write_whole(draft / CHECKSUMS) as stream:
        stream.write((json.dumps(compute_checksums(draft, names)) + "\n").encode())
    publish_folder(draft, path)


def is_whole(path: Path) -> bool:
    """Tell whether an artifact is there, as it was written; another is removed with a line, to be built again.

    The line tells a disk that errs from files that are gone, which no disk has to answer for. All of an artifact is
    read: as fast as the disk reads, or some cores reckon.
    """
    if not path.exists():
        return False
    fault = find_fault(path)
    if not fault:
        return True
    logger.warning("%s: %s, built again", path, fault)
    (path / CHECKSUMS).unlink(missing_ok=True)  # first: a removal that is killed is then known for what it is
    shutil.rmtree(path)
    return False


def find_fault(path: Path) -> str:
    """Say what an artifact lacks or where it is not as it was written; empty for a whole one."""
    try:
        noted = dict(json.loads((path / CHECKSUMS).read_bytes()))
        found = compute_checksums(path, list(noted))
    except FileNotFoundError as error:
        if Path(error.filename).name == CHECKSUMS:
            return f"incomplete (no {CHECKSUMS}: work of an earlier version, or its removal was ended)"
        return f"incomplete ({Path(error.filename).name} is gone: its removal was ended, or someone took it)"
    except (ValueError, TypeError) as error:
        return f"damaged ({CHECKSUMS}: {error})"
    damaged = [name for name in noted if found[name] != noted[name]]
    return f"damaged ({damaged[0]} is not as it was written: if this comes again, look at the disk)" if damaged else ""


def compute_checksums(folder: Path, names: Sequence[str]) -> dict[str, int]:
    """Return the checksums of a folder's files by name, several reckoned at a time; FileNotFoundError for one gone."""
    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(names, pool.map(compute_checksum, [folder / name for name in names]), strict=True))


def compute_checksum(file: Path) -> int:
    """Return the CRC-32 of a file's bytes: of disks that err, not of people who mean harm."""
    found = 0
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            found = zlib.crc32(block, found)
    return found


def draft_of(path: Path) -> Path:
    """Return the folder in which an artifact is built."""
    return path.with_name(path.name + ".partial")


def build_table(stage: Callable[[Path], pl.DataFrame], folder: Path) -> None:
    """Build an artifact from the one table that `stage(pieces)` returns; it may leave whole files in `pieces`."""
    file = folder / "shard-00000.parquet"
    if not file.exists():
        write_table(stage(folder / PIECES), file)


def compute_fingerprint(*parts: object) -> str:
    """Hash plain values and config dataclasses into 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=asdict).encode()).hexdigest()


def fingerprint_rows(table: pl.DataFrame) -> str:
    """Hash a table's names and values, row by row in their order; bytes count as hexadecimal."""
    digest = hashlib.sha256()
    for start in range(0, max(1, len(table)), HASHED):
        plain = table[start : start + HASHED].with_columns(cs.binary().bin.encode("hex"))
        digest.update(plain.write_csv(include_header=start == 0).encode())
    return digest.hexdigest()


def write_table(table: pl.DataFrame, file: Path) -> None:
    """Write a table as Parquet, whole or not at all."""
    with write_whole(file) as stream:
        pq.write_table(table.to_arrow(), stream, compression="zstd")


def write_array(array: np.ndarray, file: Path) -> None:
    """Write a .npy file, whole or not at all."""
    with write_whole(file) as stream:
        np.save(stream, array)


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
    except OSError as error:
        error.filename = error.filename or str(file)  # a write that fails does not say to which file
        raise
    finally:
        draft.unlink(missing_ok=True)


def publish_folder(draft: Path, path: Path) -> None:
    """Rename a complete folder into place, after removing what a killed writer may have left in it."""
    for stray in draft.rglob(".*.tmp"):
        stray.unlink()
    for folder in (*(entry for entry in draft.rglob("*") if entry.is_dir()), draft):
        sync_folder(folder)
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
