"""Block masks for iBOT: rectangles of patches, stratified ratios, exact counts.

After BEiT (arXiv 2106.08254) and iBOT (arXiv 2111.07832): a mask is a union of random rectangles. Half of the
student's global crops get one; the share masked is stratified over them, so every batch holds easy and hard crops.
Rectangles rarely hit a count exactly, so single patches make it up: counts then depend on the batch's shape alone and
every step has the same shapes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SMALLEST_BLOCK = 4  # patches
LARGEST_ASPECT = 1 / 0.3
TRIES = 10  # rectangles drawn before a count is made up by single patches


def block_mask(grid: int, count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A [grid, grid] mask with exactly `count` patches set, mostly in rectangles of at most half the grid."""
    mask = np.zeros((grid, grid), dtype=bool)
    missing = count
    while missing and _add_rectangle(mask, min(missing, grid * grid // 2), rng):
        missing = count - int(mask.sum())
    if missing:
        free = np.flatnonzero(~mask)
        mask.flat[rng.choice(free, missing, replace=False)] = True
    return mask


def _add_rectangle(mask: NDArray[np.bool_], limit: int, rng: np.random.Generator) -> bool:
    """Set one rectangle covering 1 to `limit` new patches; False when none was found in `TRIES` draws."""
    grid = len(mask)
    for _ in range(TRIES):
        area = rng.uniform(SMALLEST_BLOCK, max(SMALLEST_BLOCK, limit))
        aspect = math.exp(rng.uniform(-math.log(LARGEST_ASPECT), math.log(LARGEST_ASPECT)))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < height < grid and 0 < width < grid):
            continue
        top, left = rng.integers(grid - height + 1), rng.integers(grid - width + 1)
        block = mask[top : top + height, left : left + width]
        if 0 < block.size - block.sum() <= limit:
            block[:] = True
            return True
    return False


def mask_counts(crops: int, patches: int, probability: float, ratio: tuple[float, float]) -> list[int]:
    """How many patches each of the masked crops hides: one stratum of `ratio` each, at its upper edge."""
    masked = int(crops * probability)
    edges = np.linspace(*ratio, masked + 1)[1:]
    return [max(1, int(patches * edge)) for edge in edges]


def batch_masks(
    crops: int, grid: int, probability: float, ratio: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Masks of a batch, [crops, grid * grid]; the crops without a mask have all-false rows, order drawn at random."""
    masks = np.zeros((crops, grid * grid), dtype=bool)
    counts = mask_counts(crops, grid * grid, probability, ratio)
    for row, count in zip(rng.permutation(crops), counts, strict=False):
        masks[row] = block_mask(grid, count, rng).ravel()
    return masks
