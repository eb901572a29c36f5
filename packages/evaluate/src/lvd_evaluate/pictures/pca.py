"""Patch tokens as colours: foreground by the first component of all images, colours by the next PCA on it alone.

The recipe of DINOv2's figures (arXiv 2304.07193, section 7.5); signs, which an eigenvector leaves open, are fixed here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CLIP_SIGMA = 2.3  # standard deviations from the mean that black to full colour span
BINS = 256  # of the histogram that the threshold is sought in


def principal_components(tokens: Tensor, count: int) -> Tensor:
    """Coordinates of tokens [N, D] along their first principal axes: float64 [N, count], each skewed to the positive.

    Axes beyond the rank of the tokens give zeros.
    """
    centred = tokens.double() - tokens.double().mean(dim=0)
    variances, axes = torch.linalg.eigh(centred.T @ centred)  # ascending
    found = centred @ axes.flip(1)[:, :count]  # [N, count]
    found = found * (variances.flip(0)[:count] > 1e-12 * variances[-1].clamp(min=1e-30))
    return found * torch.where((found**3).sum(dim=0) < 0, -1.0, 1.0)


def find_foregrounds(grids: Sequence[Tensor]) -> list[Tensor]:
    """Which patches of images [h, w, D] show their subject: bool [h, w] each, by one component of all images.

    Each image is cut where Otsu's criterion is best for it: plain and busy backgrounds lie apart on the component, and
    one threshold for all would part those. Subject is the side that borders hold less of, the same for all.
    """
    component = principal_components(torch.cat([grid.flatten(0, 1) for grid in grids]), 1)[:, 0]
    parts = [part.view(grid.shape[:2]) for part, grid in zip(_parts(component, grids), grids, strict=True)]
    masks = [part > otsu_threshold(part) for part in parts]
    borders = torch.cat([_border(mask) for mask in masks]).double().mean()
    insides = torch.cat([mask[1:-1, 1:-1].flatten() for mask in masks]).double()
    inside = insides.mean() if len(insides) else borders
    return masks if inside >= borders else [~mask for mask in masks]


def otsu_threshold(values: Tensor) -> float:
    """The cut of values [N] into two groups whose means are farthest apart for their sizes (Otsu, 1979)."""
    low, high = values.min().item(), values.max().item()
    if low == high:
        return low
    counts = torch.histc(values, BINS, low, high)
    centres = low + (torch.arange(BINS, dtype=values.dtype) + 0.5) * (high - low) / BINS
    below, sums = counts.cumsum(0), (counts * centres).cumsum(0)
    above = below[-1] - below
    between = below * above * (sums / below.clamp(min=1) - (sums[-1] - sums) / above.clamp(min=1)) ** 2
    return low + (int(between.argmax()) + 1) * (high - low) / BINS


def colour_parts(grids: Sequence[Tensor], foregrounds: Sequence[Tensor]) -> list[Tensor]:
    """Colours of images [h, w, D]: uint8 [h, w, 3]; red, green, blue are the components of all foregrounds together.

    Background is black.
    """
    foreground = torch.cat([mask.flatten() for mask in foregrounds])  # [N]
    colours = torch.zeros(len(foreground), 3, dtype=torch.uint8)
    if foreground.any():
        tokens = torch.cat([grid.flatten(0, 1) for grid in grids])[foreground]
        found = principal_components(tokens, 3)
        scaled = found / found.std(dim=0, correction=0).clamp(min=1e-12) / CLIP_SIGMA  # -1..1 but for outliers
        values = ((scaled.clamp(-1, 1) + 1) / 2 * 255).round().to(torch.uint8)
        colours[foreground, : values.shape[1]] = values
    return [part.unflatten(0, grid.shape[:2]) for part, grid in zip(_parts(colours, grids), grids, strict=True)]


def _parts(values: Tensor, grids: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return values.split([grid.shape[0] * grid.shape[1] for grid in grids])


def _border(mask: Tensor) -> Tensor:
    inner = torch.zeros_like(mask)
    inner[1:-1, 1:-1] = True
    return mask[~inner]
