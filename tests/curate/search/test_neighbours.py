from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.search import exact, neighbours
from lvd_curate.search.neighbours import (
    FANOUT,
    find_hash_pairs,
    find_nearest,
    find_pairs_between,
    find_pairs_within,
    to_matrix,
)
from lvd_curate.search.pairs import Pairs
from lvd_curate.vectors import Vectors


def all_pairs(queries: np.ndarray, database: np.ndarray, radius: int) -> set[tuple[int, int]]:
    bits = np.bitwise_count(queries[:, None] ^ database[None, :])
    return set(zip(*map(np.ndarray.tolist, np.nonzero(bits <= radius)), strict=True))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 11))
def test_hash_pairs_are_exactly_those_within_the_radius(seed: int, radius: int) -> None:
    draw = np.random.default_rng(seed)
    centres = draw.integers(0, 2**64, 8, dtype=np.uint64)
    noise = np.zeros(40, dtype=np.uint64)
    for flips in range(14):  # up to 14 flipped bits: pairs on both sides of every radius
        noise[flips * 3 :] ^= np.uint64(1) << draw.integers(0, 64, len(noise[flips * 3 :]), dtype=np.uint64)
    hashes = np.repeat(centres, 5) ^ noise
    found = find_hash_pairs(hashes[:25], hashes, radius)
    assert set(map(tuple, found.tolist())) == all_pairs(hashes[:25], hashes, radius)
    assert len(found) == len(np.unique(found, axis=0))


def test_a_page_of_equal_hashes_costs_its_fanout_not_its_square() -> None:
    hashes = np.full(500, 5, dtype=np.uint64)
    assert len(find_hash_pairs(hashes, hashes, 11)) == 500 * FANOUT


def test_nothing_has_no_neighbours() -> None:
    nothing, one = np.empty(0, dtype=np.uint64), np.ones(1, dtype=np.uint64)
    assert find_hash_pairs(nothing, one, 3).shape == find_hash_pairs(one, nothing, 3).shape == (0, 2)
    similarities, nearest = find_nearest(np.ones((2, 3), dtype=np.float32), np.empty((0, 3), dtype=np.float32), 4)
    assert similarities.shape == nearest.shape == (2, 0)
    assert to_matrix([]).shape == (0, 0)


@pytest.mark.parametrize("count", [1, 5, 300])
def test_nearest_agrees_with_a_full_sort(count: int) -> None:
    draw = np.random.default_rng(0)
    vectors = to_matrix([row.tobytes() for row in draw.normal(size=(200, 16)).astype("<f2")])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    similarities, nearest = find_nearest(vectors[:30], vectors, count)
    expected = np.sort(vectors[:30] @ vectors.T, axis=1)[:, ::-1][:, : min(count, 200)]
    np.testing.assert_allclose(similarities, expected, atol=1e-6)
    np.testing.assert_array_equal(nearest[:, 0], np.arange(30))


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
    _, nearest = find_nearest(queries.load(), database.load(), 4)
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
