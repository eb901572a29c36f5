import numpy as np
import torch

from lvd_evaluate.pictures import matching
from lvd_evaluate.pictures.matching import match_parts


def _grid(height, width, seed):
    return torch.randn(height, width, 8, generator=torch.Generator().manual_seed(seed))


def _all(grid):
    return torch.ones(grid.shape[:2], dtype=torch.bool)


def test_patches_find_themselves_where_they_moved_to():
    first = _grid(4, 5, 0)
    second = first.roll((1, 2), dims=(0, 1)) * 3  # length does not count
    matches = match_parts(first, second, (_all(first), _all(second)), count=100, distance=0)
    assert len(matches) == 20
    for match in matches:
        assert match.second == ((match.first[0] + 1) % 4, (match.first[1] + 2) % 5)
        assert abs(match.similarity - 1) < 1e-5


def test_matches_are_mutual_inside_the_masks_and_best_first(monkeypatch):
    first, second = _grid(6, 7, 1), _grid(5, 9, 2)
    masks = (_grid(6, 7, 3)[..., 0] > 0, _grid(5, 9, 4)[..., 0] > 0)
    whole = match_parts(first, second, masks, count=100, distance=0)
    monkeypatch.setattr(matching, "ROWS", 4)  # in pieces the same
    assert match_parts(first, second, masks, count=100, distance=0) == whole
    unit = [grid.numpy() / np.linalg.norm(grid.numpy(), axis=-1, keepdims=True) for grid in (first, second)]
    similarities = np.einsum("abd,ced->abce", *unit)
    similarities[~masks[0].numpy()] = -9
    similarities[:, :, ~masks[1].numpy()] = -9
    assert whole
    for match in whole:
        value = similarities[(*match.first, *match.second)]
        assert value == similarities[match.first].max() == similarities[:, :, *match.second].max()
        assert abs(value - match.similarity) < 1e-5
    assert [match.similarity for match in whole] == sorted((match.similarity for match in whole), reverse=True)


def test_matches_keep_their_distance_and_are_no_more_than_asked_for():
    first = _grid(8, 8, 5)
    masks = (_all(first), _all(first))
    spread = match_parts(first, first, masks, count=100, distance=2.5)
    assert 4 <= len(spread) < 64
    ends = np.array([match.first for match in spread])
    gaps = np.linalg.norm(ends[:, None] - ends[None], axis=-1) + 99 * np.eye(len(ends))
    assert gaps.min() >= 2.5
    assert len(match_parts(first, first, masks, count=3, distance=2.5)) == 3


def test_nothing_matches_nothing():
    grid = _grid(2, 2, 0)
    assert match_parts(grid, grid, (_all(grid), ~_all(grid)), count=5, distance=0) == []
