import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lvd_pretrain.masks import batch_masks, block_mask, mask_counts, masked_patches


@given(grid=st.integers(2, 20), share=st.floats(0.05, 0.9), seed=st.integers(0, 2**32))
def test_a_mask_hides_exactly_what_was_asked(grid, share, seed):
    count = max(1, int(grid * grid * share))
    mask = block_mask(grid, count, np.random.default_rng(seed))
    assert mask.shape == (grid, grid)
    assert mask.sum() == count


def test_masks_are_blocks_not_noise():
    """Neighbouring patches agree far more often than in a random mask of the same share."""
    masks = np.stack([block_mask(14, 60, np.random.default_rng(seed)) for seed in range(50)])
    agreement = (masks[:, :, 1:] == masks[:, :, :-1]).mean()
    share = 60 / 196
    assert agreement > share**2 + (1 - share) ** 2 + 0.15


def test_half_of_the_crops_are_masked_with_stratified_shares():
    masks = batch_masks(16, 14, 0.5, (0.1, 0.5), [0])
    counts = sorted(masks.sum(1).tolist())
    assert counts[:8] == [0] * 8
    assert counts[8:] == mask_counts(16, 196, 0.5, (0.1, 0.5)) == [int(196 * (0.1 + 0.05 * i)) for i in range(1, 9)]


def test_which_crops_are_masked_changes_and_mixes_both_views():
    rows = [batch_masks(16, 14, 0.5, (0.1, 0.5), [seed]).any(1) for seed in range(20)]
    share = np.mean(rows, axis=0)
    assert share.min() > 0.1
    assert share.max() < 0.9


def test_ranks_see_their_rows_of_the_same_masks():
    whole = batch_masks(16, 8, 0.5, (0.1, 0.5), [3, 1, 40])
    rows = [2, 3, 10, 11]
    assert np.array_equal(batch_masks(16, 8, 0.5, (0.1, 0.5), [3, 1, 40], rows), whole[rows])
    assert not np.array_equal(batch_masks(16, 8, 0.5, (0.1, 0.5), [3, 1, 41]), whole)


@given(crops=st.integers(1, 6), patches=st.integers(1, 9), share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_masked_patches_are_found_and_every_masked_crop_weighs_one(crops, patches, share, seed):
    masks = np.random.default_rng(seed).random((crops, patches)) < share
    positions, weights = masked_patches(masks)
    assert np.array_equal(masks.ravel().nonzero()[0], positions)
    assert weights.dtype == np.float32
    per_crop = np.bincount(positions // patches, weights, minlength=crops)
    assert np.allclose(per_crop, masks.any(1))
