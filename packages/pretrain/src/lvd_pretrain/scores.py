"""Prototype logits and soft assignments in factored form: tile by tile, never a whole [tokens, prototypes] matrix.

With 4,000 masked patches and 131,072 prototypes one float32 matrix is 2 GB, and dense losses hold several. Features and
prototypes, and for targets one potential per prototype and one per sample, say the same in a few megabytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

TILE_ROWS, TILE_COLUMNS = 1024, 4096  # 16 MB of float32 at a time


def takes_bf16(device: torch.device) -> bool:
    """Whether this is the bf16 of autocast: to be asked in the forward pass."""
    return torch.is_autocast_enabled(device.type)


@contextmanager
def product_precision(device: torch.device, bf16: bool) -> Iterator[None]:
    """Products of float32 matrices: float32 results always, for they are divided by small temperatures.

    Under bf16 a CPU rounds the factors to it, as the layers before have rounded the features: cosines are off by 1e-4
    on average. Attention, which is float32 there, must not: its small products would take twice as long.
    """
    before = torch.get_float32_matmul_precision()
    if bf16 and device.type == "cpu":
        torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


class Scores(NamedTuple):
    """Logits `features @ weight.T`."""

    features: Tensor  # float32 [..., B, d]
    weight: Tensor  # float32 [K, d]

    def dense(self) -> Tensor:
        """All logits, [..., B, K], their factors never rounded: these are the small problems."""
        with product_precision(self.weight.device, bf16=False):
            return self.features @ self.weight.T

    def tile(self, rows: slice, columns: slice) -> Tensor:
        """Some rows' logits of some prototypes, [..., b, k]."""
        with product_precision(self.weight.device, takes_bf16(self.weight.device)):
            return self.features[..., rows, :] @ self.weight[columns].T

    def sharpened(self, temperature: float) -> Scores:
        """Logits / temperature."""
        return self._replace(features=self.features / temperature)

    def unflatten(self, dim: int, sizes: tuple[int, ...]) -> Scores:
        """As `Tensor.unflatten`, of the rows."""
        return self._replace(features=self.features.unflatten(dim, sizes))


class Assignment(NamedTuple):
    """Targets `exp(scores + columns + rows)`; the potentials make every row sum to 1."""

    scores: Scores  # sharpened
    columns: Tensor  # float32 [K]
    rows: Tensor  # float32 [..., B]

    def dense(self) -> Tensor:
        """All targets, [..., B, K]."""
        return self.tile(slice(None), slice(None))

    def tile(self, rows: slice, columns: slice) -> Tensor:
        """Some rows' targets over some prototypes, [..., b, k]."""
        logits = self.scores.tile(rows, columns)
        return logits.add_(self.columns[columns]).add_(self.rows[..., rows].unsqueeze(-1)).exp_()

    def unflatten(self, dim: int, sizes: tuple[int, ...]) -> Assignment:
        """As `Tensor.unflatten`, of the rows."""
        return self._replace(scores=self.scores.unflatten(dim, sizes), rows=self.rows.unflatten(dim, sizes))

    def winners_and_entropies(self) -> tuple[Tensor, Tensor]:
        """The prototype of each row's largest target, int64 [..., B], and its targets' entropy in nats, [..., B]."""
        best = self.rows.new_full(self.rows.shape, -torch.inf)
        winners, entropies = torch.zeros_like(self.rows, dtype=torch.int64), torch.zeros_like(self.rows)
        *views, count = self.rows.shape
        for rows, columns in tiles(count, len(self.columns), math.prod(views)):
            tile = self.tile(rows, columns)
            value, place = tile.max(-1)
            better = value > best[..., rows]
            winners[..., rows] = torch.where(better, place + columns.start, winners[..., rows])
            best[..., rows] = torch.maximum(value, best[..., rows])
            entropies[..., rows] -= torch.xlogy(tile, tile).sum(-1)
        return winners, entropies


def tiles(rows: int, columns: int, views: int = 1) -> Iterator[tuple[slice, slice]]:
    """Cut `views` matrices of one shape into tiles, all views of a tile together TILE_ROWS by TILE_COLUMNS at most."""
    height = max(1, TILE_ROWS // views)
    for top in range(0, rows, height):
        for left in range(0, columns, TILE_COLUMNS):
            yield slice(top, min(top + height, rows)), slice(left, min(left + TILE_COLUMNS, columns))


def logsumexp_of_rows(scores: Scores, potentials: Tensor | None = None) -> Tensor:
    """log sum over prototypes of exp(scores + potentials), [..., B, K] never stored -> [..., B].

    Args:
        scores: logits.
        potentials: float32 [K], added to every row.
    """
    *views, count, _ = scores.features.shape
    result = scores.features.new_full((*views, count), -torch.inf)
    for rows, columns in tiles(count, len(scores.weight), math.prod(views)):
        tile = scores.tile(rows, columns)
        if potentials is not None:
            tile.add_(potentials[columns])
        result[..., rows] = torch.logaddexp(result[..., rows], tile.logsumexp(-1))
    return result


def logsumexp_of_columns(scores: Scores, potentials: Tensor) -> Tensor:
    """log sum over rows of exp(scores + potentials), [B, K] never stored -> [K]; -inf without rows.

    Args:
        scores: logits, [B, K].
        potentials: float32 [B], added to every column.
    """
    result = scores.features.new_full((len(scores.weight),), -torch.inf)
    for rows, columns in tiles(len(potentials), len(result)):
        tile = scores.tile(rows, columns).add_(potentials[rows].unsqueeze(-1))
        result[columns] = torch.logaddexp(result[columns], tile.logsumexp(0))
    return result
