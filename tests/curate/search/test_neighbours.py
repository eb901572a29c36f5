from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.search import exact, neighbours
from lvd_curate.search.neighbours import find_pairs_between, find_pairs_within
from lvd_curate.search.pairs import Pairs
from lvd_curate.vectors import Vectors


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path / "bench", InlineExecutor(), 1 << 28)


def save_vectors(file: Path, count: int = 1500) -> Vectors:
    draw = np.random.default_rng(2)
    centres = draw.normal(size=(30, 32))
    stored = centres[draw.integers(0, 30, count)] + draw.normal(size=(count, 32))
    stored[: count // 5] = stored[draw.integers(count // 5, count, count // 5)]
    stored[: count // 5] += 0.4 * draw.normal(size=(count // 5, 32))
    np.save(file, stored.astype(np.float16))
    return Vectors(file, draw.permutation(count))


def as_set(parts: Iterator[Pairs]) -> set[tuple[int, int]]:
    rows = [row for part in parts for row in zip(part.first.tolist(), part.second.tolist(), strict=True)]
    assert rows == sorted(set(rows))
    return set(rows)


@pytest.mark.parametrize("small", [True, False])
def test_pairs_within_are_those_above_the_threshold_whichever_way(
    tmp_path: Path, bench: Workbench, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    monkeypatch.setattr(neighbours, "is_small", lambda *_: small)
    vectors = save_vectors(tmp_path / "vectors.npy")
    cosines = vectors.load().astype(np.float64) @ vectors.load().T
    expected = set(map(tuple, np.argwhere(np.triu(cosines > 0.85, 1)).tolist()))
    found = as_set(find_pairs_within(vectors, 1000, 0.85, bench))
    assert len(expected) > 250
    assert found <= expected
    assert len(found) >= (1 if small else 0.95) * len(expected)
    assert (bench.folder / next(bench.folder.iterdir()).name / "centroids.npy").exists() != small


@pytest.mark.parametrize("small", [True, False])
def test_nearest_between_two_sets_whichever_way(
    tmp_path: Path, bench: Workbench, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    monkeypatch.setattr(neighbours, "is_small", lambda *_: small)
    vectors = save_vectors(tmp_path / "vectors.npy")
    queries, database = vectors[:100], vectors[100:]
    found = as_set(find_pairs_between(queries, database, 4, -1, bench))
    nearest = np.argsort(-queries.load() @ database.load().T, axis=1)[:, :4]
    expected = {(row, match) for row in range(100) for match in nearest[row].tolist()}
    assert len(found) == 400
    assert len(found & expected) >= (400 if small else 380)


def test_a_bench_serves_several_searches_and_answers_a_repeated_one_from_its_files(
    tmp_path: Path, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = save_vectors(tmp_path / "vectors.npy", 300)
    some, all_of_them = (as_set(find_pairs_within(vectors, count, 0.5, bench)) for count in (1, 300))
    other = as_set(find_pairs_within(vectors[:200], 300, 0.5, bench))
    assert len(some) < len(all_of_them)
    assert len(list(bench.folder.iterdir())) == 3
    assert other == {pair for pair in all_of_them if max(pair) < 200}
    monkeypatch.setattr(exact, "Shortlist", None)  # nothing may be compared again
    assert as_set(find_pairs_within(vectors, 300, 0.5, bench)) == all_of_them


def test_nobody_has_no_pairs(tmp_path: Path, bench: Workbench) -> None:
    vectors = save_vectors(tmp_path / "vectors.npy", 10)
    for queries, database in ((vectors[:0], vectors), (vectors, vectors[:0]), (vectors[:0], vectors[:0])):
        assert not list(find_pairs_between(queries, database, 4, -1, bench))
    assert not list(find_pairs_within(vectors[:1], 4, -1, bench))
    assert len(as_set(find_pairs_between(vectors[:1], vectors, 64, -1, bench))) == 10
