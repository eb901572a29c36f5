"""Block masks for iBOT: rectangles of patches, stratified ratios, exact counts.

After BEiT (arXiv 2106.08254) and iBOT (arXiv 2111.07832): a mask is a union of random rectangles. Half of the
student's global crops get one; the share masked is stratified over them, so every batch holds easy and hard crops.
Rectangles rarely hit a count exactly, so single patches make it up: the sum over a global batch is always the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lvd_pretrain.draws import uniform

SMALLEST_BLOCK = 4  # patches
LOG_ASPECT = math.log(1 / 0.3)  # of the most elongated block, either way
TRIES = 10  # rectangles drawn before a count is made up by single patches


def block_mask(grid: int, count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A [grid, grid] mask with exactly `count` patches set, mostly in rectangles of at most half the grid."""
    mask = np.zeros((grid, grid), dtype=bool)
    missing = count
    while missing and (added := _add_rectangle(mask, min(missing, grid * grid // 2), rng)):
        missing -= added
    if missing:
        free = np.flatnonzero(~mask)
        mask.flat[rng.choice(free, missing, replace=False)] = True
    return mask


def _add_rectangle(mask: NDArray[np.bool_], limit: int, rng: np.random.Generator) -> int:
    """Set one rectangle covering 1 to `limit` new patches; how many, 0 when none was found in `TRIES` draws."""
    grid = len(mask)
    for _ in range(TRIES):
        area = uniform(SMALLEST_BLOCK, max(SMALLEST_BLOCK, limit), rng)
        aspect = math.exp(uniform(-LOG_ASPECT, LOG_ASPECT, rng))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < height < grid and 0 < width < grid):
            continue
        top, left = rng.integers(grid - height + 1), rng.integers(grid - width + 1)
        block = mask[top : top + height, left : left + width]
        new = height * width - int(np.count_nonzero(block))
        if 0 < new <= limit:
            block[:] = True
            return new
    return 0


def mask_counts(crops: int, patches: int, probability: float, ratio: tuple[float, float]) -> list[int]:
    """How many patches each of the masked crops hides: one stratum of `ratio` each, at its upper edge."""
    masked = int(crops * probability)
    edges = np.linspace(*ratio, masked + 1)[1:]
    return [max(1, int(patches * edge)) for edge in edges]


def masked_patches(masks: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Where the masked patches stand, and what each weighs in a mean per crop.

    Args:
        masks: [crops, N].

    Returns:
        Positions in the flattened masks, [M], and 1 / number of masked patches of the patch's crop, [M].
    """
    counts = masks.sum(1)
    masked = counts[counts > 0]
    return np.flatnonzero(masks), np.repeat(1 / masked, masked).astype(np.float32)


def batch_masks(
    crops: int,
    grid: int,
    probability: float,
    ratio: tuple[float, float],
    seed: Sequence[int],
    rows: Sequence[int] | None = None,
) -> NDArray[np.bool_]:
    """Masks of some crops of a global batch; those without a mask have all-false rows, which ones drawn at random.

    Args:
        crops: global crops in the batch of all ranks.
        grid: patches along a side.
        probability: share of crops that get a mask.
        ratio: smallest and largest share of patches masked.
        seed: of this batch; a crop's mask depends on it and on the crop's row, not on which others are asked for.
        rows: crops wanted, all by default.

    Returns:
        [rows, grid * grid].
    """
    counts = mask_counts(crops, grid * grid, probability, ratio)
    shuffled = np.random.default_rng(seed).permutation(crops)
    count_of = dict(zip(shuffled.tolist(), counts, strict=False))
    wanted = range(crops) if rows is None else rows
    masks = np.zeros((len(wanted), grid * grid), dtype=bool)
    for mask, row in zip(masks, wanted, strict=True):
        if row in count_of:
            rng = np.random.default_rng([*seed, row + 1])  # trailing zeros would not change a seed
            mask[:] = block_mask(grid, count_of[row], rng).ravel()
    return masks
