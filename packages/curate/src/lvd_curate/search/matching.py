"""Comparing vectors: a fast first look that misses nothing, and an exact second one at what it brought up.

The first look is one matrix product, in bfloat16 where the processor multiplies it fast (AMX, CUDA), else in float32.
Its rounding is bounded, so it only has to let everything through that lies within that bound of the bar. The second
look computes each remaining cosine from the stored float16 values in float64, one pair at a time: what is found does
not depend on the machine, on the precision of the first look or on how the work was cut. The exception is a crowd: of
more than 4 count + CROWD vectors in one block that the first look cannot tell apart, which ones stay depends on all
three, unless they are equal.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from lvd_curate.search.pairs import Pairs, join_pairs, keep_best
from lvd_curate.vectors import Vectors

TILE = 1 << 22  # similarities looked at together: 8 MB in bfloat16
QUERIES_AT_ONCE = 512
EVEN = 128  # products are padded to multiples of this: few shapes, because the library compiles one kernel for each
PAIRS_SCORED = 4096  # together: 32 MB at D = 512
PENDING = 1 << 21  # pairs found before each query's list is cut to its length, at most
CROWD = 1024  # a crowd of near-equal vectors brings at most 4 count + CROWD of them to the second look


class FirstLook(NamedTuple):
    """Where and in what precision."""

    device: str
    dtype: torch.dtype

    def margin(self, dim: int) -> float:
        """Bound the error of a product of unit vectors [D]: roundings of both, of the result, of the bar; the sum."""
        rounding = 5 * 2.0**-9 if self.dtype is torch.bfloat16 else 0.0
        return rounding + (dim + 8) * 2.0**-23


@cache
def choose_first_look() -> FirstLook:
    """Take the GPU where there is one, and bfloat16 where it is multiplied by the matrix unit.

    Sets torch to one thread: pieces of work run side by side, and no sum depends on how many.
    """
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        return FirstLook("cuda", torch.bfloat16)
    fast = torch.cpu._is_amx_tile_supported()
    return FirstLook("cpu", torch.bfloat16 if fast else torch.float32)


def read_stored(vectors: Vectors) -> tuple[np.ndarray, np.ndarray]:
    """Return the stored float16 [M, D] and the positions int64 [M] of those that have a direction.

    A vector that is zero or not finite is left out: it is near nothing.
    """
    stored = vectors.open()[vectors.rows]
    usable = np.isfinite(stored).all(axis=1) & stored.any(axis=1)
    positions = np.flatnonzero(usable)
    return (stored if len(positions) == len(stored) else stored[positions]), positions


def prepare(stored: np.ndarray, num_rows: int | None = None) -> torch.Tensor:
    """Return unit vectors [N, D] for the first look, with zeros behind them up to so many rows."""
    look = choose_first_look()
    prepared = torch.zeros((num_rows or len(stored), stored.shape[1]), dtype=look.dtype, device=look.device)
    for start in range(0, len(stored), 8192):
        block = torch.from_numpy(stored[start : start + 8192]).to(look.device).float()
        prepared[start : start + len(block)] = block / block.norm(dim=1, keepdim=True)
    return prepared


def score(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows, float16 [P, D] twice, to the last bit of float32 [P]."""
    left, right = first.astype(np.float64), second.astype(np.float64)
    squares = np.einsum("pd,pd->p", left, left) * np.einsum("pd,pd->p", right, right)
    return (np.einsum("pd,pd->p", left, right) / np.sqrt(squares)).astype(np.float32)


class Shortlist:
    """The nearest of each query among all vectors it has been compared with."""

    def __init__(self, stored: np.ndarray, ids: np.ndarray, count: int, threshold: float, *, skip_self: bool) -> None:
        """Start for queries float16 [Q, D] with ids int64 [Q]; a threshold of -1 or less accepts everything."""
        self.stored, self.ids, self.skip_self = stored, ids, skip_self
        self.count, self.threshold = count, threshold if threshold > -1 else -np.inf
        self.queries = prepare(stored)
        self.margin = choose_first_look().margin(stored.shape[1])
        self.bars = np.full(len(stored), self.threshold - self.margin, dtype=np.float32)
        self.found: list[Pairs] = []
        self.pending = 0

    def compare(self, rows: np.ndarray, stored: np.ndarray, ids: np.ndarray) -> None:
        """Compare the queries at `rows` with vectors float16 [M, D] that have these ids; no id may come twice."""
        targets = prepare(stored, math.ceil(len(stored) / EVEN) * EVEN).T  # [D, M or a little more]
        for start in range(0, len(rows), QUERIES_AT_ONCE):
            tile = rows[start : start + QUERIES_AT_ONCE]
            padded = np.resize(tile, math.ceil(len(tile) / EVEN) * EVEN)
            similarities = (self.queries[padded] @ targets)[: len(tile), : len(stored)]  # [T, M]
            queries, matches = self.look(similarities, self.bars[tile])
            self.add(tile[queries], matches, stored, ids)
        if self.pending > min(PENDING, 2 * self.count * len(self.stored)):
            self.settle()

    def look(self, similarities: torch.Tensor, bars: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of [T, M] that lie above the bars [T], and of crowded rows only the best."""
        mask = find_above(similarities, bars)
        wanted = self.count + self.skip_self
        crowded = find_crowded(mask, wanted)
        if len(crowded):
            values = similarities[crowded].float()
            lowest = torch.from_numpy(bars[crowded, None]).to(values.device)
            mask[crowded] = keep_crowd(values, lowest, wanted, 2 * self.margin).cpu().numpy()
        return np.divmod(np.flatnonzero(mask), similarities.shape[1])

    def add(self, rows: np.ndarray, matches: np.ndarray, stored: np.ndarray, ids: np.ndarray) -> None:
        """Score pairs exactly and keep what lies above the threshold."""
        if self.skip_self:
            other = self.ids[rows] != ids[matches]
            rows, matches = rows[other], matches[other]
        for start in range(0, len(rows), PAIRS_SCORED):
            left, right = rows[start : start + PAIRS_SCORED], matches[start : start + PAIRS_SCORED]
            similarity = score(self.stored[left], stored[right])
            above = similarity > self.threshold
            self.found.append(Pairs(left[above], ids[right[above]], similarity[above]))
            self.pending += int(above.sum())

    def settle(self) -> Pairs:
        """Cut every list to its length and raise the bar of the full ones."""
        best = keep_best(join_pairs(self.found), self.count)
        ends = np.flatnonzero(np.diff(best.first, append=-1))
        full = ends[np.diff(ends, prepend=-1) == self.count]
        self.bars[best.first[full]] = np.maximum(self.bars[best.first[full]], best.similarity[full] - self.margin)
        self.found, self.pending = [best], 0
        return best

    def finish(self) -> Pairs:
        """Return the `count` nearest of each query, best first, as pairs (query id, match id)."""
        best = self.settle()
        return Pairs(self.ids[best.first], best.second, best.similarity)


def find_above(similarities: torch.Tensor, bars: np.ndarray) -> np.ndarray:
    """Return which similarities [T, M] exceed their row's bar [T]."""
    if similarities.dtype is torch.bfloat16 and similarities.device.type == "cpu" and bars.min(initial=1) > 0:
        bits = torch.from_numpy(bars).bfloat16().view(torch.int16).numpy()  # above zero, bit patterns order as numbers
        return np.greater(similarities.view(torch.int16).numpy(), bits[:, None])
    limits = torch.from_numpy(bars).to(similarities)
    return np.asarray((similarities > limits[:, None]).cpu().numpy())


def find_crowded(mask: np.ndarray, limit: int) -> np.ndarray:
    """Return the rows of [T, M] in which more than `limit` places are true; fast where few are."""
    if np.count_nonzero(mask) <= limit:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.bincount(np.flatnonzero(mask) // mask.shape[1], minlength=len(mask)) > limit)


def keep_crowd(values: torch.Tensor, lowest: torch.Tensor, wanted: int, band: float) -> torch.Tensor:
    """Return what of rows [R, M] may be among the `wanted` best; of a crowd of equals, those that come first."""
    bar = torch.maximum(lowest, values.topk(wanted, dim=1).values[:, -1:] - band)
    keep = values > bar
    limit = 4 * wanted + CROWD
    crowded = find_crowded(keep.cpu().numpy(), limit)
    if len(crowded):
        some = values[crowded]
        edge = some.topk(limit, dim=1).values[:, -1:]
        above, equal = some > edge, some == edge
        keep[crowded] = above | (equal & (equal.cumsum(dim=1) <= limit - above.sum(dim=1, keepdim=True)))
    return keep


def rank_cells(vectors: torch.Tensor, centroids: torch.Tensor, count: int) -> np.ndarray:
    """Return the `count` nearest of centroids [C, D] to each vector [N, D], nearest first; int32 [N, count]."""
    step = max(1, TILE // len(centroids))
    found = [np.empty((0, count), dtype=np.int32)]
    for start in range(0, len(vectors), step):
        similarities = vectors[start : start + step] @ centroids.T  # [T, C]
        found.append(similarities.float().topk(count, dim=1).indices.int().cpu().numpy())
    return np.concatenate(found)
