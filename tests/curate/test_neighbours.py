import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvd_curate.neighbours import FANOUT, find_hash_pairs, find_nearest, find_similar_pairs, to_matrix


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
    pairs, scores = find_similar_pairs(vectors[:30], vectors, 200, 0.5)
    assert set(map(tuple, pairs.tolist())) == set(
        zip(*map(np.ndarray.tolist, np.nonzero(vectors[:30] @ vectors.T > 0.5)), strict=True)
    )
    assert (scores > 0.5).all()
