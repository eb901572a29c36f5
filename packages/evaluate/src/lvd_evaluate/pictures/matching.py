"""Which part is which: patches of two images that are each other's nearest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

ROWS = 2048  # of a matrix of similarities held at a time


@dataclass(frozen=True)
class Match:
    """Two patches, as row and column of their grids."""

    first: tuple[int, int]
    second: tuple[int, int]
    similarity: float  # cosine


def match_parts(
    first: Tensor, second: Tensor, masks: tuple[Tensor, Tensor], *, count: int, distance: float
) -> list[Match]:
    """Mutual nearest neighbours among the masked patches of two images, the most similar first.

    Args:
        first: patch tokens [h, w, D] of one image.
        second: patch tokens of the other.
        masks: bool [h, w] of each: the patches that take part.
        count: matches at most.
        distance: patches that matches keep from one another in both images, so that they spread over the parts.
    """
    places = [mask.nonzero().tolist() for mask in masks]  # [N][row, column], [M][row, column]
    if not places[0] or not places[1]:
        return []
    tokens = [
        functional.normalize(grid[mask].float(), dim=1) for grid, mask in zip((first, second), masks, strict=True)
    ]
    best, there, back = _nearest(*tokens)
    mutual = (back[there] == torch.arange(len(there))).nonzero()[:, 0]
    taken: list[Match] = []
    for row in mutual[best[mutual].argsort(descending=True, stable=True)].tolist():
        if len(taken) == count:
            break
        start, end = tuple(places[0][row]), tuple(places[1][there[row]])
        if all(min(math.dist(start, match.first), math.dist(end, match.second)) >= distance for match in taken):
            taken.append(Match(start, end, best[row].item()))
    return taken


def _nearest(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of unit vectors [N, D] and [M, D]: the best similarity [N] and its place in `second` [N], and in `first` [M]."""
    best, there = torch.empty(len(first)), torch.empty(len(first), dtype=torch.long)
    best_back = torch.full((len(second),), -torch.inf)
    back = torch.zeros(len(second), dtype=torch.long)
    for start in range(0, len(first), ROWS):
        similarities = first[start : start + ROWS] @ second.T  # [ROWS, M]
        best[start : start + ROWS], there[start : start + ROWS] = similarities.max(dim=1)
        highest, rows = similarities.max(dim=0)
        back = torch.where(highest > best_back, rows + start, back)
        best_back = torch.maximum(best_back, highest)
    return best, there, back
