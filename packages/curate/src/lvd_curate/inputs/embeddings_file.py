"""Ready-made embeddings in the place of an encoder: a file of vectors, each with the name of its image.

`embeddings:FILE` is a .parquet or .arrow file with a column `embedding` (lists of numbers, or bytes of little-endian
float16), or a .npy matrix beside which FILE.parquet or FILE.txt (the same name, the other suffix) holds a name per row.
A name is an image's `id` (sha256 of its bytes, 64 hexadecimal digits) or its `path` as the lineage shows it, with a
column `source` where sets share paths. A .txt holds ids or paths, one per line. Whoever looks images up in another
order than the file's reads faster from a .npy: it is mapped, while a table is read through from one piece to the next.
"""

import functools
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from lvd_curate.engine.artifacts import write_whole
from lvd_curate.errors import InputError
from lvd_curate.inputs.file_names import stamp_file
from lvd_curate.inputs.table_images import Table, is_text, name_damage, open_table
from lvd_curate.inputs.vector_sources import NpyVectors, TableVectors, VectorSource

PREFIX = "embeddings:"
SUFFIXES = (".npy", ".parquet", ".arrow")
BLOCK = 4096  # vectors in memory at once
CONTENT_ID = re.compile("[0-9a-f]{64}")
WAYS = (
    "embeddings:FILE with a .parquet or .arrow file (columns embedding, and id or path), or a .npy matrix with "
    "FILE.txt or FILE.parquet of names beside it"
)


@dataclass(frozen=True)
class Embeddings:
    """Vectors by name."""

    names: pl.DataFrame  # row int64, and `id`, or `path` and maybe `source`: each name once
    vectors: VectorSource
    files: tuple[Path, ...]  # that these were read from

    @property
    def dim(self) -> int:
        """Return D."""
        return self.vectors.dim

    def lookup(self, files: pl.DataFrame) -> list[bytes | None]:
        """Return the unit vector of each image as little-endian float16 [D]; null where none is given or finite.

        `files` has id, path and source.
        """
        rows = self.find_rows(files)
        wanted, back = np.unique(rows[rows >= 0], return_inverse=True)
        found = np.full((len(rows), self.dim), np.nan, dtype=np.float16)
        found[rows >= 0] = to_unit(self.vectors.take(wanted))[back]
        return [vector.tobytes() if np.isfinite(vector).all() else None for vector in found.astype("<f2")]

    def find_rows(self, files: pl.DataFrame) -> np.ndarray:
        """Return the row of each image's vector, int64 [N]; -1 where no embedding is given."""
        key, (hashes, order) = self.key, self.by_hash
        wanted = files.select(key)
        asked = np.unique(wanted.hash_rows().to_numpy())
        start, stop = np.searchsorted(hashes, asked), np.searchsorted(hashes, asked, side="right")
        rivals = self.names[order[spread(start, stop - start)]]  # of equal hash: nearly always the very names
        found = wanted.join(rivals, on=key, how="left", maintain_order="left")
        rows: np.ndarray = found["row"].fill_null(-1).to_numpy()
        return rows

    @property
    def key(self) -> list[str]:
        """Return the columns that name a vector."""
        return [name for name in self.names.columns if name != "row"]

    @functools.cached_property
    def by_hash(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the names' hashes, rising, and their places: a lookup that does not go through all names."""
        hashes = self.names.select(self.key).hash_rows().to_numpy()
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order

    def fingerprint(self) -> str:
        """Hash the files' bytes."""
        digest = hashlib.sha256()
        for file in self.files:
            with open(file, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def write_npy(self, folder: Path) -> Path:
        """Write all vectors, in the file's order, as a .npy of unit float16 [M, D]; NaN where one is not finite."""
        file = folder / f"given-{self.fingerprint()[:16]}.npy"
        if not file.exists():
            shape = (self.vectors.num_rows, self.dim)
            with write_whole(file) as stream:
                header = {"descr": "<f2", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
                for start in range(0, shape[0], BLOCK):
                    rows = np.arange(start, min(start + BLOCK, shape[0]))
                    stream.write(to_unit(self.vectors.take(rows)).astype("<f2").tobytes())
        return file


def open_embeddings(spec: str) -> Embeddings:
    """Open the file that `embeddings:FILE` or FILE names; kept, while it stays the same, for the next shard.

    Raises InputError, with the way out, when vectors or names are missing, damaged, doubled or do not fit together.
    """
    file = Path(spec.removeprefix(PREFIX))
    if file.suffix not in SUFFIXES:
        raise InputError(f"embeddings {file}: no known kind of file; give {WAYS}")
    if not file.is_file():
        raise InputError(f"no embeddings at {file}; give {WAYS}")
    return open_file(file, tuple(stamp_file(os.fsencode(file.with_suffix(suffix))) for suffix in (*SUFFIXES, ".txt")))


@functools.lru_cache(maxsize=2)
def open_file(file: Path, stamps: tuple[int, ...]) -> Embeddings:
    """Open vectors and names; `stamps` make a changed file be opened anew."""
    vectors: VectorSource
    if file.suffix == ".npy":
        vectors, named = NpyVectors(file), find_names_file(file)
        names = read_text_names(named) if named.suffix == ".txt" else read_table_names(named, open_named(named))
    else:
        table, named = open_named(file), file
        if "embedding" not in table.schema.names:
            raise InputError(f"{file} has no column embedding, only {', '.join(table.schema.names)}; give {WAYS}")
        names, vectors = read_table_names(file, table), TableVectors(file, table, "embedding")
    check_names(names, vectors.num_rows, named)
    files = (file,) if named == file else (file, named)
    return Embeddings(names.with_row_index("row").cast({"row": pl.Int64}), vectors, files)


def read_embeddings(file: str, folder: Path) -> tuple[pl.DataFrame, Path]:
    """Return the names of a file's vectors and a .npy of them in `folder`, unit float16 [M, D].

    The names (row, and `id`, or `path` and maybe `source`) have a column `finite`: false where the vector is not.
    """
    given = open_embeddings(file)
    npy = given.write_npy(folder)
    matrix = np.load(npy, mmap_mode="r")
    starts = range(0, len(matrix), BLOCK)
    finite = np.concatenate([np.isfinite(matrix[start : start + BLOCK]).all(axis=1) for start in starts])
    return given.names.with_columns(finite=pl.Series(finite)), npy


def spread(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the numbers of all runs, one run after another: `counts` numbers from each of `starts` on."""
    ends = np.cumsum(counts)
    return np.arange(counts.sum()) + np.repeat(starts - (ends - counts), counts)


def to_unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length one, float16 [N, D]; NaN where a row holds no direction: zero, NaN or infinite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        wide = vectors.astype(np.float64)
        unit: np.ndarray = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float16)
    return unit


def find_names_file(file: Path) -> Path:
    """Return the file of names beside a .npy."""
    for suffix in (".parquet", ".txt"):
        if file.with_suffix(suffix).is_file():
            return file.with_suffix(suffix)
    raise InputError(f"{file} has no names: put {file.stem}.txt or {file.stem}.parquet beside it, a name per row")


def open_named(file: Path) -> Table:
    """Open a table; InputError when it is damaged."""
    with name_damage(file):
        return open_table(file)


def read_table_names(file: Path, table: Table) -> pl.DataFrame:
    """Read the columns that name rows: `id`, or else `path` and, where it is there, `source`."""
    there = [name for name in ("id", "path", "source") if name in table.schema.names]
    key = ["id"] if "id" in there else there
    if key[:1] not in (["id"], ["path"]):
        raise InputError(f"{file} has neither a column id nor path, only {', '.join(table.schema.names)}")
    for name in key:
        if not is_text(table.schema.field(name).type):
            raise InputError(f"{file}: column {name} is {table.schema.field(name).type}, not text")
    with name_damage(file):
        columns = {name: [text for values in table.read_from(0, name) for text in values.to_pylist()] for name in key}
    return pl.DataFrame(columns, schema=dict.fromkeys(key, pl.String))


def read_text_names(file: Path) -> pl.DataFrame:
    """Read one name per line: all of them ids, or else paths."""
    try:
        with open(file, encoding="utf-8-sig") as lines:
            names = [line.removesuffix("\n") for line in lines]
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text ({error.reason}); write one name per line") from error
    column = "id" if all(map(CONTENT_ID.fullmatch, names)) else "path"
    return pl.DataFrame({column: names}, schema={column: pl.String})


def check_names(names: pl.DataFrame, num_rows: int, file: Path) -> None:
    """Raise InputError unless every vector has a name of its own."""
    if len(names) != num_rows:
        raise InputError(f"{file} names {len(names):,} vectors, but there are {num_rows:,}; one name per vector")
    nameless = names.select(pl.any_horizontal(pl.all().is_null()).arg_true()).to_series()
    if len(nameless):
        raise InputError(f"{file}: row {nameless[0]} has no name; every vector needs one")
    doubled = names.filter(names.is_duplicated())
    if len(doubled):
        raise InputError(f"{file} names {' '.join(doubled.row(0))!r} more than once; keep one vector per image")
