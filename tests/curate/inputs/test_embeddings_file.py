import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lvd_curate.errors import InputError
from lvd_curate.inputs.embeddings_file import open_embeddings, read_embeddings

VECTORS = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
IDS = [f"{number:064x}" for number in range(300)]
FORMATS = ("npy+txt", "npy+parquet", "list.parquet", "fixed.parquet", "bytes.parquet", "list.arrow")


def write_given(folder: Path, format: str, names: dict[str, list[str]], vectors: np.ndarray = VECTORS) -> Path:
    """Write vectors and names in one of FORMATS."""
    kind, _, suffix = format.partition(".")
    if kind.startswith("npy"):
        np.save(folder / "x.npy", vectors)
        if kind.endswith("txt"):
            (folder / "x.txt").write_text("".join(f"{name}\n" for name in next(iter(names.values()))))
        else:
            pq.write_table(pa.table(names), folder / "x.parquet")
        return folder / "x.npy"
    types = {"list": pa.list_(pa.float32()), "fixed": pa.list_(pa.float16(), 8), "bytes": pa.binary()}
    values: list[Any] = list(vectors.astype(np.float16) if kind != "list" else vectors)
    if kind == "bytes":
        values = [vector.tobytes() for vector in values]
    table = pa.table(names | {"embedding": pa.array(values, types[kind])})
    file = folder / f"x.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, file, row_group_size=70)
        return file
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=70)
    return file


def files_of(rows: list[int], source: str = "s") -> pl.DataFrame:
    names = {"id": [f"{row:064x}" for row in rows], "path": [f"a/{row}.jpg" for row in rows]}
    return pl.DataFrame(names | {"source": [source] * len(rows)}, schema_overrides={"id": pl.String, "path": pl.String})


def cosines(data: list[bytes | None], rows: list[int]) -> np.ndarray:
    found = np.stack([np.frombuffer(each or b"", "<f2").astype(np.float64) for each in data])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=2e-3)
    wanted = VECTORS[rows] / np.linalg.norm(VECTORS[rows], axis=1, keepdims=True)
    return (found * wanted).sum(axis=1) / np.linalg.norm(found, axis=1)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("by", ["id", "path"])
def test_vectors_are_found_by_name_in_any_order(tmp_path: Path, format: str, by: str) -> None:
    names = {"id": IDS} if by == "id" else {"path": [f"a/{row}.jpg" for row in range(300)]}
    given = open_embeddings(f"embeddings:{write_given(tmp_path, format, names)}")
    rows = [*range(299, -1, -7), 3, 3, 150]
    assert given.dim == 8
    assert cosines(given.lookup(files_of(rows)), rows).min() > 0.9999
    strangers = files_of([5, 400])
    assert given.find_rows(strangers).tolist() == [5, -1]
    assert given.lookup(strangers)[1] is None
    assert given.lookup(files_of([])) == []


def test_a_source_tells_equal_paths_apart(tmp_path: Path) -> None:
    names = {"path": ["a/0.jpg", "a/0.jpg"], "source": ["pool", "seeds"]}
    given = open_embeddings(str(write_given(tmp_path, "list.parquet", names, VECTORS[:2])))
    assert [given.find_rows(files_of([0], source))[0] for source in ("seeds", "pool", "other")] == [1, 0, -1]


def test_names_of_equal_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.DataFrame, "hash_rows", lambda frame: pl.zeros(len(frame), pl.UInt64, eager=True))
    given = open_embeddings(f"embeddings:{write_given(tmp_path, 'npy+txt', {'id': IDS})}")
    asked = pl.DataFrame({"id": [IDS[7], "unknown", IDS[299], IDS[7], None]})
    assert given.find_rows(asked).tolist() == [7, -1, 299, 7, -1]


@pytest.mark.parametrize("format", ["npy+txt", "list.parquet"])
def test_vectors_without_direction_give_none(tmp_path: Path, format: str) -> None:
    vectors = VECTORS[:6].copy()
    vectors[1], vectors[2, 0], vectors[3, 0], vectors[4], vectors[5] = 0, np.nan, np.inf, 1e30, 1e-30
    given = open_embeddings(str(write_given(tmp_path, format, {"id": IDS[:6]}, vectors)))
    assert [data is None for data in given.lookup(files_of(list(range(6))))] == [False, True, True, True, False, False]


def test_null_vectors_give_none_and_integers_are_numbers(tmp_path: Path) -> None:
    values = pa.array([[3, 4], None, [None, 1]], pa.list_(pa.int64()))
    pq.write_table(pa.table({"id": IDS[:3], "embedding": values}), tmp_path / "x.parquet")
    first, *others = open_embeddings(str(tmp_path / "x.parquet")).lookup(files_of([0, 1, 2]))
    np.testing.assert_allclose(np.frombuffer(first or b"", "<f2").astype(float), [0.6, 0.8], atol=1e-3)
    assert others == [None, None]


@pytest.mark.parametrize("format", FORMATS)
def test_all_vectors_come_as_one_matrix(tmp_path: Path, format: str) -> None:
    vectors = VECTORS.copy()
    vectors[7] = 0
    names, npy = read_embeddings(str(write_given(tmp_path, format, {"id": IDS}, vectors)), tmp_path)
    matrix = np.load(npy)
    assert (matrix.shape, matrix.dtype) == ((300, 8), np.dtype("<f2"))
    assert names.filter(~pl.col("finite"))["row"].to_list() == [7]
    wanted = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    np.testing.assert_allclose(np.delete(matrix, 7, 0), np.delete(wanted, 7, 0), atol=1e-3)
    before = npy.stat().st_mtime_ns
    assert read_embeddings(str(tmp_path / ("x.npy" if "npy" in format else f"x.{format.split('.')[1]}")), tmp_path)
    assert npy.stat().st_mtime_ns == before


def test_the_fingerprint_follows_vectors_and_names(tmp_path: Path) -> None:
    seen = set()
    for vectors, ids in ((VECTORS, IDS), (VECTORS + 1, IDS), (VECTORS, IDS[::-1])):
        file = write_given(tmp_path, "npy+txt", {"id": ids}, vectors)
        seen.add(open_embeddings(str(file)).fingerprint())
    assert len(seen) == 3


class Trap:
    """Would make a file when unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    (tmp_path / "y.npy").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    for name in ("x.npy", "y.npy"):
        with pytest.raises(InputError, match=f"{name} is no readable .npy matrix"):
            open_embeddings(str(tmp_path / name))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros(5), r"holds 5 values of float64; give a matrix"),
        (np.zeros((2, 2, 2)), r"holds 2 x 2 x 2 values"),
        (np.zeros((5, 2), dtype=bool), r"values of bool"),
        (np.zeros((5, 2), dtype=np.complex64), r"values of complex64"),
        (np.array([["a", "b"]]), r"values of <U1"),
        (np.zeros((0, 4)), r"holds 0 x 4 values"),
        (np.zeros((3, 4)), r"x\.txt names 2 vectors, but there are 3"),
    ],
)
def test_a_matrix_that_cannot_be_used_says_why(tmp_path: Path, matrix: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", matrix)
    (tmp_path / "x.txt").write_text("a.jpg\nb.jpg\n")
    with pytest.raises(InputError, match=message):
        open_embeddings(str(tmp_path / "x.npy"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a", "a"], "embedding": [[1.0], [2.0]]}, "names 'a' more than once"),
        ({"id": ["a", None], "embedding": [[1.0], [2.0]]}, "row 1 has no name"),
        ({"id": [1, 2], "embedding": [[1.0], [2.0]]}, "column id is int64, not text"),
        ({"name": ["a"], "embedding": [[1.0]]}, "neither a column id nor path, only name, embedding"),
        ({"source": ["a"], "embedding": [[1.0]]}, "neither a column id nor path"),
        ({"id": ["a"], "vector": [[1.0]]}, "has no column embedding, only id, vector"),
        ({"id": ["a"], "embedding": [["x"]]}, r"column embedding is list<.*string>; give lists of numbers"),
        ({"id": ["a"], "embedding": [1.0]}, "column embedding is double"),
        ({"id": ["a"], "embedding": pa.array([None], pa.list_(pa.float32()))}, "column embedding holds no vector"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=message):
        open_embeddings(str(tmp_path / "x.parquet"))


def test_a_vector_of_another_length_names_its_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": IDS[:3], "embedding": [[1.0, 2.0], [1.0, 2.0], [1.0]]}), tmp_path / "x.parquet")
    given = open_embeddings(str(tmp_path / "x.parquet"))
    assert given.lookup(files_of([0]))[0] is not None
    with pytest.raises(InputError, match=r"x\.parquet: the vector of row 2 has 1 numbers, others 2"):
        given.lookup(files_of([0, 2]))


def test_missing_and_damaged_files_say_the_ways(tmp_path: Path) -> None:
    np.save(tmp_path / "alone.npy", VECTORS)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "alone.npy").read_bytes()[:500])
    header = bytearray((tmp_path / "alone.npy").read_bytes())
    header[12:60] = b"(" * 48
    (tmp_path / "header.npy").write_bytes(header)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    np.save(tmp_path / "latin.npy", VECTORS)
    for name, message in {
        "none.npy": "no embeddings at .*; give embeddings:FILE",
        "x.csv": "no known kind of file; give embeddings:FILE",
        "alone.npy": r"alone\.npy has no names: put alone\.txt or alone\.parquet beside it",
        "cut.npy": "no readable .npy matrix: mmap length is greater than file size",
        "header.npy": "no readable .npy matrix",
        "bad.parquet": "no readable Parquet file",
        "latin.npy": "not UTF-8 text",
    }.items():
        with pytest.raises(InputError, match=message):
            open_embeddings(str(tmp_path / name))
