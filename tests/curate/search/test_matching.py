from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lvd_curate.search import matching
from lvd_curate.search.matching import (
    FirstLook,
    Shortlist,
    find_above,
    keep_crowd,
    prepare,
    rank_cells,
    read_stored,
    score,
)
from lvd_curate.vectors import Vectors

LOOKS = [FirstLook("cpu", torch.float32), FirstLook("cpu", torch.bfloat16)]


def draw_stored(seed: int, count: int, dim: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(max(1, count // 6), dim))
    return (centres[draw.integers(0, len(centres), count)] + 0.5 * draw.normal(size=(count, dim))).astype(np.float16)


def nearest_by_sorting(
    queries: np.ndarray, database: np.ndarray, count: int, threshold: float, *, skip_self: bool
) -> list[tuple[int, int]]:
    found = []
    for row, query in enumerate(queries):
        cosines = score(np.repeat(query[None], len(database), 0), database)
        order = sorted(range(len(database)), key=lambda match: (-cosines[match], match))
        near = [match for match in order if cosines[match] > threshold and not (skip_self and match == row)]
        found += [(row, match) for match in near[:count]]
    return found


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.sampled_from([-1.0, 0.3, 0.9]),
    st.booleans(),
    st.sampled_from(LOOKS),
)
def test_the_shortlist_is_what_a_full_sort_gives_whatever_the_first_look(
    seed: int, count: int, threshold: float, skip_self: bool, look: FirstLook
) -> None:
    stored = draw_stored(seed, 90, 24)
    stored[40:50] = stored[30:40]  # equals: the lowest wins
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "choose_first_look", lambda: look)
        shortlist = Shortlist(stored, np.arange(90), count, threshold, skip_self=skip_self)
        for start in range(0, 90, 32):
            shortlist.compare(np.arange(90), stored[start : start + 32], np.arange(start, min(90, start + 32)))
            if seed % 2:
                shortlist.settle()
        found = shortlist.finish()
    expected = nearest_by_sorting(stored, stored, count, -np.inf if threshold == -1 else threshold, skip_self=skip_self)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == expected


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 100, 768]), st.sampled_from(LOOKS))
def test_the_first_look_errs_less_than_its_margin(seed: int, dim: int, look: FirstLook) -> None:
    stored = draw_stored(seed, 64, dim)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "choose_first_look", lambda: look)
        seen = (prepare(stored) @ prepare(stored).T).float().numpy()
    exact = stored.astype(np.float64) / np.linalg.norm(stored.astype(np.float64), axis=1, keepdims=True)
    assert np.abs(seen - exact @ exact.T).max() < look.margin(dim)


def test_a_score_depends_on_its_two_vectors_only() -> None:
    stored = draw_stored(3, 300, 50)
    left, right = np.arange(299), np.arange(1, 300)
    together = score(stored[left], stored[right])
    np.testing.assert_array_equal(together, score(stored[right], stored[left]))
    np.testing.assert_array_equal(
        together, np.concatenate([score(stored[i : i + 1], stored[i + 1 : i + 2]) for i in left])
    )
    assert (score(stored, stored) == 1).all()


def test_vectors_without_a_direction_are_left_out(tmp_path: Path) -> None:
    stored = draw_stored(0, 6, 4)
    stored[1], stored[3, 2], stored[4, 0] = 0, np.nan, np.inf
    np.save(tmp_path / "vectors.npy", stored)
    found, positions = read_stored(Vectors(tmp_path / "vectors.npy", np.array([5, 4, 3, 2, 1, 0])))
    assert positions.tolist() == [0, 3, 5]
    np.testing.assert_array_equal(found, stored[[5, 2, 0]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bar", [-np.inf, -0.25, 0.25])
def test_above_means_above_for_either_sign(dtype: torch.dtype, bar: float) -> None:
    similarities = torch.linspace(-1, 1, 65)[None].repeat(2, 1).to(dtype)
    mask = find_above(similarities, np.full(2, bar, dtype=np.float32))
    np.testing.assert_array_equal(mask, similarities.float().numpy() > bar)


def test_a_crowd_of_equals_is_cut_to_those_that_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "CROWD", 2)
    values = torch.tensor([[0.7, 0.7, 0.9, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.1]])
    kept = keep_crowd(values, torch.tensor([[-1.0]]), 1, 0.5)  # one is wanted: six may stay
    assert kept[0].nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_page_of_equal_vectors_costs_no_more_than_its_crowd() -> None:
    stored = np.repeat(draw_stored(1, 1, 16), 6000, axis=0)
    shortlist = Shortlist(stored[:200], np.arange(200), 3, 0.5, skip_self=True)
    shortlist.compare(np.arange(200), stored, np.arange(6000))
    assert shortlist.pending <= 200 * (4 * 4 + matching.CROWD)
    found = shortlist.finish()
    assert found.second[found.first == 0].tolist() == [1, 2, 3]
    assert found.second[found.first == 2].tolist() == [0, 1, 3]


def test_cells_are_ranked_by_cosine() -> None:
    vectors, cells = (torch.from_numpy(draw_stored(seed, 50, 12)).float() for seed in (1, 2))
    np.testing.assert_array_equal(rank_cells(vectors, cells, 7), (-(vectors @ cells.T)).argsort(dim=1)[:, :7].numpy())
