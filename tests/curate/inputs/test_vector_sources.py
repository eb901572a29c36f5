from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lvd_curate.errors import InputError
from lvd_curate.inputs.table_images import open_table
from lvd_curate.inputs.vector_sources import NpyVectors, TableVectors, is_vector

MATRIX = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 199)), st.sampled_from([1, 7, 64, 65, 200]))
def test_any_ascending_rows_are_taken(tmp_path: Path, wanted: set[int], group: int) -> None:
    rows = np.array(sorted(wanted), dtype=np.int64)
    pq.write_table(pa.table({"v": list(MATRIX)}), tmp_path / "x.parquet", row_group_size=group)
    np.save(tmp_path / "x.npy", MATRIX)
    table = TableVectors(tmp_path / "x.parquet", open_table(tmp_path / "x.parquet"), "v")
    for vectors in (table, NpyVectors(tmp_path / "x.npy")):
        assert (vectors.num_rows, vectors.dim) == (200, 4)
        taken = vectors.take(rows)
        assert taken.dtype == np.float32
        np.testing.assert_array_equal(taken, MATRIX[rows])


def test_a_matrix_is_mapped_and_large_numbers_become_infinite(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[1e300, 1.0], [3.0, 4.0]], dtype=">f8", order="F"))
    vectors = NpyVectors(tmp_path / "x.npy")
    assert isinstance(vectors.matrix, np.memmap)
    assert vectors.take(np.array([0, 1])).tolist() == [[np.inf, 1.0], [3.0, 4.0]]


def test_a_row_behind_the_end_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": list(MATRIX)}), tmp_path / "x.parquet")
    table = TableVectors(tmp_path / "x.parquet", open_table(tmp_path / "x.parquet"), "v")
    with pytest.raises(InputError, match=r"x\.parquet ends before its row 200"):
        table.take(np.array([3, 200]))


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        (pa.list_(pa.float64()), True),
        (pa.large_list(pa.int8()), True),
        (pa.list_(pa.float16(), 8), True),
        (pa.binary(16), True),
        (pa.large_binary(), True),
        (pa.list_(pa.bool_()), False),
        (pa.list_(pa.string()), False),
        (pa.float32(), False),
        (pa.string(), False),
    ],
)
def test_lists_of_numbers_and_bytes_are_vectors(kind: pa.DataType, holds: bool) -> None:
    assert is_vector(kind) is holds
