import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvd_curate.engine import artifacts
from lvd_curate.engine.artifacts import Workbench, write_whole
from lvd_curate.engine.executors import InlineExecutor, ProcessExecutor
from lvd_curate.search import ivf, pairs
from lvd_curate.search.exact import search_exactly
from lvd_curate.search.ivf import DEFAULT_PROBES, choose_probes, search_cells
from lvd_curate.search.pairs import Pairs, join_pairs, merge_files
from lvd_curate.search.pieces import Search
from lvd_curate.vectors import Vectors

COPIES = Search(20, 0.8, within=True)
PIECES_OF_1024 = 1 << 19  # bytes


def save_vectors(stored: np.ndarray, file: Path) -> Vectors:
    np.save(file, stored.astype(np.float16))
    return Vectors(file, np.arange(len(stored)))


@pytest.fixture
def vectors(tmp_path: Path) -> Vectors:
    """3,000 vectors of 60 concepts, 600 of them copies of others."""
    draw = np.random.default_rng(1)
    centres = draw.normal(size=(60, 24))
    stored = centres[draw.integers(0, 60, 3000)] + draw.normal(size=(3000, 24))
    stored[:600] = stored[draw.integers(600, 3000, 600)] + 0.5 * draw.normal(size=(600, 24))
    return save_vectors(stored[draw.permutation(3000)], tmp_path / "vectors.npy")


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path / "bench", InlineExecutor(), PIECES_OF_1024)


def search_all(queries: Vectors, database: Vectors, search: Search, bench: Workbench) -> Pairs:
    files = search_exactly(queries, np.arange(len(queries)), database, search, bench)
    return join_pairs(list(merge_files(files, len(queries))))


def search_some(queries: Vectors, database: Vectors, search: Search, bench: Workbench) -> Pairs:
    return join_pairs(list(merge_files(search_cells(queries, database, search, bench, 0), len(queries))))


def as_set(found: Pairs) -> set[tuple[int, int, float]]:
    rows = list(zip(*map(np.ndarray.tolist, found), strict=True))
    assert len(rows) == len({row[:2] for row in rows})
    return set(rows)


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_copies_are_found_and_nothing_else(
    vectors: Vectors, bench: Workbench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        found = as_set(search_some(vectors, vectors, COPIES, bench))
    true = as_set(search_all(vectors, vectors, COPIES, bench._replace(folder=tmp_path / "exact")))
    assert "3000 vectors, 110 cells, 4 probes, sampled recall" in caplog.text
    assert len(true) > 600
    assert found <= true
    assert len(found) >= 0.95 * len(true)
    assert all(first < second for first, second, _ in found)
    assert not {"queries", "database", "sample"} & {file.name for file in bench.folder.iterdir()}


@pytest.mark.parametrize("search", [Search(3, 0.5, within=True), Search(3, 0.5, within=False), Search(9, -1, False)])
def test_with_every_cell_probed_the_result_is_exact_to_the_last_neighbour_and_bit(
    vectors: Vectors, bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: Search
) -> None:
    monkeypatch.setattr(ivf, "PROBES", (1000,))
    queries, database = (vectors, vectors) if search.within else (vectors[:1200], vectors[1200:])
    found = as_set(search_some(queries, database, search, bench))
    assert found == as_set(search_all(queries, database, search, bench._replace(folder=tmp_path / "exact")))


def test_every_query_gets_its_neighbours_though_its_cells_hold_too_few(
    vectors: Vectors, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivf, "choose_probes", lambda *_: 1)  # one cell holds about 27 vectors
    search = Search(100, -1, within=False)
    found = search_some(vectors[:50], vectors[50:], search, bench)
    np.testing.assert_array_equal(found.first, np.repeat(np.arange(50), 100))
    assert len(as_set(found)) == 5000
    within = search_some(vectors, vectors, Search(60, -1, within=True), bench._replace(folder=bench.folder / "within"))
    partners = np.bincount(np.concatenate([within.first, within.second]), minlength=3000)
    assert partners.min() >= 60


def test_a_sample_that_cells_cannot_serve_is_answered_by_searching_everything(
    bench: Workbench, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapeless = save_vectors(np.random.default_rng(0).normal(size=(3000, 48)), tmp_path / "shapeless.npy")
    search = Search(4, -1, within=True)
    monkeypatch.setattr(ivf, "PROBES", (2, 4))
    caplog.set_level(logging.WARNING)
    found = as_set(search_some(shapeless, shapeless, search, bench))
    assert "searching everything" in caplog.text
    assert found == as_set(search_all(shapeless, shapeless, search, bench._replace(folder=tmp_path / "exact")))


def test_too_few_pairs_measure_nothing_and_the_default_is_taken(
    vectors: Vectors, bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.folder.mkdir()
    centroids = ivf.fit_centroids(vectors, bench, 0)
    with caplog.at_level(logging.INFO):
        assert choose_probes(vectors, vectors, centroids, Search(5, 0.9999, True), bench, 0) == DEFAULT_PROBES
    assert "too few to measure recall" in caplog.text


def test_vectors_without_a_direction_have_no_neighbours_and_spoil_none(
    vectors: Vectors, bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivf, "PROBES", (1000,))
    stored = np.array(vectors.open())
    stored[10], stored[500, 3], stored[2999, 0] = 0, np.nan, np.inf
    spoilt = save_vectors(stored, tmp_path / "spoilt.npy")
    found = as_set(search_some(spoilt, spoilt, COPIES, bench))
    whole = as_set(search_all(vectors, vectors, Search(2000, 0.8, True), bench._replace(folder=tmp_path / "exact")))
    assert found == {row for row in whole if not {10, 500, 2999} & set(row[:2])}


class Killed(Exception):
    """What ends a run."""


class MortalExecutor:
    """Works inline and dies after so many pieces of work."""

    def __init__(self, lives: int) -> None:
        self.lives = lives

    def map(self, function: Callable[[Any], Any], shards: Sequence[Any]) -> Iterator[Any]:
        for shard in shards:
            if not self.lives:
                raise Killed
            self.lives -= 1
            yield function(shard)


@pytest.mark.parametrize("lives", [1, 4, 7, 10, 12, 14])
@pytest.mark.parametrize("within", [True, False])
def test_a_killed_search_goes_on_and_makes_no_file_twice(
    vectors: Vectors, bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lives: int, within: bool
) -> None:
    search = COPIES._replace(within=within)
    queries = vectors if within else vectors[:2000]
    search_cells(queries, vectors, search, bench, 0)
    written: list[Path] = []

    def write_and_tell(file: Path) -> Any:
        written.append(file)
        return write_whole(file)

    for module in (ivf, artifacts, pairs):
        monkeypatch.setattr(module, "write_whole", write_and_tell)
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        search_cells(queries, vectors, search, Workbench(folder, MortalExecutor(lives), PIECES_OF_1024), 0)
    before = len(written)
    assert before
    search_cells(queries, vectors, search, bench._replace(folder=folder), 0)
    assert len(written) == len(set(written)) > before
    assert read_all(folder) == read_all(bench.folder)
    search_cells(queries, vectors, search, Workbench(folder, MortalExecutor(0), PIECES_OF_1024), 0)  # all is there


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(vectors: Vectors, bench: Workbench, tmp_path: Path) -> None:
    search_cells(vectors, vectors, COPIES, bench, 0)
    with ProcessExecutor(2) as executor:
        search_cells(vectors, vectors, COPIES, Workbench(tmp_path / "two", executor, PIECES_OF_1024), 0)
    assert read_all(tmp_path / "two") == read_all(bench.folder)
