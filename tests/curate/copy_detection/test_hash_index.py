from pathlib import Path

import numpy as np
import pytest

from lvd_curate.copy_detection import hash_index
from lvd_curate.copy_detection.hash_index import (
    FANOUT,
    PROBES,
    Matches,
    open_index,
    order_flips,
    search_index,
    write_index,
)
from lvd_curate.copy_detection.hashing import pack_bits


def draw_sums(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 128))


def flip_bits(sums: np.ndarray, count: int) -> np.ndarray:
    flipped = sums.copy()
    for number, row in enumerate(flipped):
        row[np.random.default_rng(number).permutation(128)[:count]] *= -1
    return flipped


def search(database: np.ndarray, queries: np.ndarray, radius: int, folder: Path) -> Matches:
    write_index(pack_bits(database > 0), folder)
    return search_index(open_index(folder), queries, radius)


def pairs_of(found: Matches) -> set[tuple[int, int]]:
    return set(zip(found.queries.tolist(), found.matches.tolist(), strict=True))


@pytest.mark.parametrize("radius", [0, 11, 26])
def test_near_hashes_are_those_within_the_radius(radius: int, tmp_path: Path) -> None:
    database = draw_sums(300)
    queries = np.concatenate([flip_bits(database[:40], flips) for flips in (0, 11, 12, 26, 27)])
    found = search(database, queries, radius, tmp_path)
    bits = ((queries[:, None] > 0) ^ (database[None] > 0)).sum(axis=2)
    assert pairs_of(found) == set(map(tuple, np.argwhere(bits <= radius).tolist()))
    np.testing.assert_array_equal(found.distances, bits[found.queries, found.matches])


def test_cells_find_what_comparing_all_finds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    database = draw_sums(6000)
    noisy = database[:500] + 0.4 * draw_sums(500, seed=1)
    everything = pairs_of(search(database, noisy, 26, tmp_path))
    monkeypatch.setattr(hash_index, "CELL", 6)
    monkeypatch.setattr(hash_index, "PROBES", 24)
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    found = [search(database, noisy, 26, folder) for folder in folders]
    assert [len(table.bits) for table in open_index(folders[0])] == [10, 10]
    for left, right in zip(*found, strict=True):
        np.testing.assert_array_equal(left, right)
    assert pairs_of(found[0]) <= everything
    assert len(pairs_of(found[0])) >= 0.97 * len(everything) > 400


def test_cells_hold_every_hash_once_where_its_bits_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hash_index, "CELL", 4)
    database = draw_sums(3000)
    write_index(pack_bits(database > 0), tmp_path)
    for table in open_index(tmp_path):
        np.testing.assert_array_equal(np.sort(table.entries["row"]), np.arange(3000))
        cells = (database[table.entries["row"]][:, table.bits] > 0) @ (1 << np.arange(len(table.bits)))
        np.testing.assert_array_equal(np.searchsorted(cells, np.arange(2 ** len(table.bits) + 1)), table.starts)


@pytest.mark.parametrize("width", [6, 7, 12, 20])
def test_a_query_looks_first_where_its_least_sure_bits_lead(width: int) -> None:
    flips = order_flips(width)
    assert flips.shape == (PROBES, width)
    assert len(np.unique(flips, axis=0)) == PROBES
    assert not flips[0].any()
    assert np.flatnonzero(flips[1]).tolist() == [0]
    assert (np.diff(flips @ np.arange(1, width + 1)) >= 0).all()
    wider = order_flips(width + 3)
    assert (flips @ np.arange(1, width + 1)).sum() >= (wider @ np.arange(1, width + 4)).sum()


def test_a_page_of_equal_hashes_costs_its_fanout_not_its_square(tmp_path: Path) -> None:
    page = np.repeat(draw_sums(1), 500, axis=0)
    found = search(page, page, 26, tmp_path)
    assert pairs_of(found) == {(query, match) for query in range(500) for match in range(FANOUT)}


def test_of_many_near_hashes_the_nearest_are_kept(tmp_path: Path) -> None:
    page = np.concatenate([flip_bits(np.repeat(draw_sums(1), 60, axis=0), flips) for flips in (9, 4)])
    found = search(page, draw_sums(1), 26, tmp_path)
    assert found.distances.tolist() == [4] * FANOUT
    assert found.matches.min() >= 60
