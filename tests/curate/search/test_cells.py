import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.search.cells import fit_centroids, lay_out, read_rows
from lvd_curate.search.pieces import count_cells
from lvd_curate.vectors import Vectors

SHORT_OF_MEMORY = 1 << 10  # bytes: pieces of 1024 rows


@pytest.fixture
def vectors(tmp_path: Path) -> Vectors:
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(40, 16))
    stored = (centres[draw.integers(0, 40, 5000)] + 0.4 * draw.normal(size=(5000, 16))).astype(np.float16)
    stored[77], stored[2500, 3] = 0, np.nan
    np.save(tmp_path / "vectors.npy", stored)
    return Vectors(tmp_path / "vectors.npy", draw.permutation(5000))


def test_centroids_are_units_near_their_vectors_and_neighbours_have_near_numbers(
    tmp_path: Path, vectors: Vectors
) -> None:
    bench = Workbench(tmp_path, InlineExecutor(), 1 << 30)
    centroids = np.load(fit_centroids(vectors, bench, 3))
    assert centroids.shape == (count_cells(5000), 16)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-5)
    usable = vectors[~np.isin(vectors.rows, (77, 2500))].load()
    assert (usable @ centroids.T).max(axis=1).mean() > 0.9
    similar = centroids @ centroids.T
    assert np.diagonal(similar, 1).mean() > similar.mean() + 0.3
    first = (tmp_path / "centroids.npy").read_bytes()
    assert fit_centroids(vectors, bench._replace(folder=tmp_path), 3).read_bytes() == first
    for name, seed in (("same", 3), ("other", 4)):
        (tmp_path / name).mkdir()
        again = fit_centroids(vectors, bench._replace(folder=tmp_path / name), seed).read_bytes()
        assert (again == first) == (seed == 3)


def test_a_layout_holds_every_usable_vector_once_in_the_order_of_cells(tmp_path: Path, vectors: Vectors) -> None:
    bench = Workbench(tmp_path, InlineExecutor(), SHORT_OF_MEMORY)
    centroids_file = fit_centroids(vectors, bench._replace(max_bytes=1 << 30), 0)
    layout = lay_out(vectors, centroids_file, 3, bench._replace(folder=tmp_path / "layout"))
    assert layout.block_rows == 1024
    assert len(layout) == 4998
    assert sorted(file.name for file in layout.folder.glob("block-*")) == [f"block-{n:06d}.npy" for n in range(5)]
    assert not list(layout.folder.glob("run-*"))
    index, stored = layout.read_index(0, 4998), layout.read(0, 4998)
    np.testing.assert_array_equal(stored, vectors.open()[vectors.rows[index["row"]]])
    lost = np.setdiff1d(np.arange(5000), index["row"])
    assert sorted(vectors.rows[lost].tolist()) == [77, 2500]
    homes = np.repeat(np.arange(len(layout.offsets) - 1), np.diff(layout.offsets))
    np.testing.assert_array_equal(homes, index["probes"][:, 0])
    assert (np.diff(index["row"])[np.diff(homes) == 0] > 0).all()  # in a cell, rows keep their order
    cosines = vectors[index["row"]].load() @ np.load(centroids_file).T
    best = np.sort(cosines, axis=1)[:, ::-1][:, :3]
    np.testing.assert_allclose(np.take_along_axis(cosines, index["probes"], axis=1), best, atol=0.02)
    for start, stop in ((0, 1), (1000, 1100), (1024, 2048), (100, 4000), (7, 7)):
        np.testing.assert_array_equal(layout.read(start, stop), stored[start:stop])


def test_the_layout_is_the_same_however_it_is_cut(tmp_path: Path, vectors: Vectors) -> None:
    centroids = fit_centroids(vectors, Workbench(tmp_path, InlineExecutor(), 1 << 30), 0)
    stored, rows = [], []
    for max_bytes in (SHORT_OF_MEMORY, 1 << 30):
        layout = lay_out(vectors, centroids, 4, Workbench(tmp_path / str(max_bytes), InlineExecutor(), max_bytes))
        stored.append(layout.read(0, len(layout)))
        rows.append(layout.read_index(0, len(layout)))
    np.testing.assert_array_equal(*stored)
    np.testing.assert_array_equal(*rows)


class Weighing(InlineExecutor):
    """Remembers how many bytes another process would be sent."""

    def __init__(self) -> None:
        self.most: list[int] = []

    def map(self, function: Callable[[Any], Any], shards: Sequence[Any]) -> Iterator[Any]:
        self.most.append(max(len(pickle.dumps(shard)) for shard in shards))
        return super().map(function, shards)


def test_no_piece_of_work_knows_every_row(tmp_path: Path, vectors: Vectors) -> None:
    centroids, weighing = fit_centroids(vectors, Workbench(tmp_path, InlineExecutor(), 1 << 30), 0), Weighing()
    lay_out(vectors, centroids, 1, Workbench(tmp_path / "layout", weighing, SHORT_OF_MEMORY))
    assigning, merging = weighing.most
    assert assigning < 8 * 1024 + 1000
    assert merging < 2000


def test_rows_of_a_file_of_records(tmp_path: Path) -> None:
    records = np.zeros(9, dtype=[("row", "<i8"), ("probes", "<i4", (2,))])
    records["row"] = np.arange(9)
    np.save(tmp_path / "records.npy", records)
    np.testing.assert_array_equal(read_rows(tmp_path / "records.npy", 3, 100), records[3:])
