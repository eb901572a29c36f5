import numpy as np
import pytest

from lvd_curate.copy_detection import hash_index
from lvd_curate.copy_detection.hash_index import FANOUT, build_index, search_index


def draw_hashes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16), dtype=np.uint8)


def flip_bits(hashes: np.ndarray, count: int) -> np.ndarray:
    bits = np.unpackbits(hashes, axis=1)
    for row in bits:
        row[np.random.default_rng(int(row[:8].sum())).permutation(128)[:count]] ^= 1
    return np.packbits(bits, axis=1)


@pytest.mark.parametrize("radius", [0, 11, 26])
def test_near_hashes_are_those_within_the_radius(radius: int) -> None:
    database = draw_hashes(300)
    queries = np.concatenate([flip_bits(database[:40], flips) for flips in (0, 11, 12, 26, 27)])
    found = search_index(build_index(database), queries, radius)
    bits = np.bitwise_count(queries[:, None] ^ database[None]).sum(axis=2)
    assert set(zip(found.queries.tolist(), found.matches.tolist(), strict=True)) == set(
        map(tuple, np.argwhere(bits <= radius).tolist())
    )
    np.testing.assert_array_equal(found.distances, bits[found.queries, found.matches])


def test_cells_find_what_comparing_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    database = draw_hashes(6000)
    queries = flip_bits(database[:500], 12)
    monkeypatch.setattr(hash_index, "EXACT", 100)
    indexes = [build_index(database) for _ in range(2)]
    assert indexes[0].nlist == 155
    found = [search_index(index, queries, 26) for index in indexes]
    for left, right in zip(*found, strict=True):
        np.testing.assert_array_equal(left, right)
    assert (found[0].queries == found[0].matches).sum() >= 480


def test_a_page_of_equal_hashes_costs_its_fanout_not_its_square() -> None:
    page = np.repeat(draw_hashes(1), 500, axis=0)
    assert len(search_index(build_index(page), page, 26).queries) == 500 * FANOUT
