import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from lvd_evaluate.pictures.pca import colour_parts, find_foregrounds, otsu_threshold, principal_components


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_components_are_scikit_learns_but_for_the_sign_which_is_fixed(seed):
    tokens = torch.from_numpy(np.random.default_rng(seed).gamma(2.0, 1.0, (60, 7))) * torch.arange(1, 8)
    found = principal_components(tokens, 3)
    expected = PCA(3, svd_solver="full").fit_transform(tokens.numpy())
    assert np.allclose(np.abs(found), np.abs(expected), atol=1e-6)
    assert ((found**3).sum(dim=0) >= 0).all()


def test_components_beyond_the_rank_are_nothing():
    found = principal_components(torch.arange(6.0)[:, None] * torch.ones(4), 3)
    assert found[:, 0].std() > 1
    assert not found[:, 1:].any()
    assert not principal_components(torch.ones(5, 4), 2).any()


def test_the_threshold_lies_between_two_heaps_of_any_size():
    values = torch.cat([torch.linspace(-1, 0, 50), torch.linspace(5, 6, 400)])
    assert 0 <= otsu_threshold(values) <= 5
    assert otsu_threshold(torch.ones(3)) == 1


def _scene(shift=0.0, size=10, seed=0):
    """Tokens of an image: noise around one vector, a square of two parts around others."""
    generator = torch.Generator().manual_seed(seed)
    grid = 0.05 * torch.randn(size, size, 6, generator=generator)
    grid[..., 0] += 3 + shift
    grid[3:7, 3:5] += torch.tensor([-6.0, 2, 0, 0, 0, 0])
    grid[3:7, 5:7] += torch.tensor([-6.0, -2, 0, 0, 0, 0])
    return grid


def test_the_subject_is_what_borders_hold_less_of_whatever_its_sign():
    expected = torch.zeros(10, 10, dtype=torch.bool)
    expected[3:7, 3:7] = True
    for sign in (1, -1):
        for mask in find_foregrounds([sign * _scene(), sign * _scene(0.1, seed=1)]):
            assert torch.equal(mask, expected)


def test_a_plain_and_a_busy_background_are_both_background():
    for mask in find_foregrounds([_scene(shift=3.0), _scene(shift=-2.0, seed=1)]):
        assert mask.sum() == 16
        assert mask[3:7, 3:7].all()


def test_the_same_part_has_the_same_colour_in_every_image_and_background_is_black():
    grids = [_scene(), _scene(seed=1).flip(1)]
    first, second = colour_parts(grids, find_foregrounds(grids))
    assert first.dtype == torch.uint8
    assert not first[0].any()
    left, right = first[3:7, 3:5].double().mean(dim=(0, 1)), first[3:7, 5:7].double().mean(dim=(0, 1))
    mirrored = second[3:7, 5:7].double().mean(dim=(0, 1))
    assert (left - right).abs().max() > 60
    assert (left - mirrored).abs()[0] < 10


def test_an_image_without_a_subject_or_of_few_values_is_drawn_all_the_same():
    flat = [torch.ones(3, 4, 2)]
    (colours,) = colour_parts(flat, find_foregrounds(flat))
    assert colours.shape == (3, 4, 3)
    (black,) = colour_parts(flat, [torch.zeros(3, 4, dtype=torch.bool)])
    assert not black.any()


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5)])
def test_tiny_grids_have_no_inside_and_are_drawn(size):
    grids = [torch.rand(*size, 4, generator=torch.Generator().manual_seed(0))]
    (colours,) = colour_parts(grids, find_foregrounds(grids))
    assert colours.shape == (*size, 3)
