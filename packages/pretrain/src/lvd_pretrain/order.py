"""The order in which samples are seen, as a pure function of the seed: nothing to store, nothing to replay.

A sample's position counts all samples of all ranks since step 0. Each pass over the data is a new pseudo-random
permutation, evaluated index by index (a Feistel network with cycle walking), so seeking to any step costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

ROUNDS = 4
MIXTURE_BLOCK = 1 << 16  # samples in which every source gets exactly its share


def permuted_index(position: int, length: int, seed: int) -> int:
    """Index of the image at `position`: pass `position // length`, place `position % length` of that pass."""
    turn, place = divmod(position, length)
    half = max(1, ((length - 1).bit_length() + 1) // 2)
    while True:  # walk along the cycle until the value falls into range: a bijection on 0..length-1
        left, right = place >> half, place & ((1 << half) - 1)
        for round_number in range(ROUNDS):
            left, right = right, left ^ _scramble(seed, turn, round_number, right, half)
        place = (left << half) | right
        if place < length:
            return place


def _scramble(seed: int, turn: int, round_number: int, value: int, bits: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{turn}/{round_number}/{value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & ((1 << bits) - 1)


@dataclass(frozen=True)
class Shuffle:
    """All images in a permutation per pass."""

    length: int
    seed: int

    def __call__(self, position: int) -> int:
        """Index of the image at `position`."""
        return permuted_index(position, self.length, self.seed)

    def substitute(self, position: int, rng: np.random.Generator) -> int:
        """Another image for `position`, drawn uniformly."""
        return int(rng.integers(self.length))


@dataclass(frozen=True)
class Mixture:
    """Sources in fixed shares: exact in every block of 65,536 samples, in an order of its own, each source permuted.

    A source's images are all seen once before one returns, so a small source with a large share repeats itself more
    often, and evenly.

    Attributes:
        members: row numbers of each source's images.
        shares: samples of each source per block; they sum to `MIXTURE_BLOCK`.
    """

    members: list[NDArray[np.int64]]
    shares: list[int]
    seed: int

    def __call__(self, position: int) -> int:
        """Index of the image at `position`."""
        source, slot = self._source(permuted_index(position, MIXTURE_BLOCK, self.seed))
        turn = position // MIXTURE_BLOCK * self.shares[source] + slot
        rows = self.members[source]
        return int(rows[permuted_index(turn, len(rows), self.seed + 1 + source)])

    def substitute(self, position: int, rng: np.random.Generator) -> int:
        """Another image of the same source for `position`, drawn uniformly."""
        source, _ = self._source(permuted_index(position, MIXTURE_BLOCK, self.seed))
        return int(rng.choice(self.members[source]))

    def _source(self, slot: int) -> tuple[int, int]:
        """Which source a slot of the block belongs to, and its place among that source's slots."""
        ends = np.cumsum(self.shares)
        source = int(np.searchsorted(ends, slot, side="right"))
        return source, slot - int(ends[source] - self.shares[source])


def mixture_shares(weights: list[float]) -> list[int]:
    """Largest-remainder rounding of weights to whole samples per block."""
    exact = np.asarray(weights, dtype=np.float64) / sum(weights) * MIXTURE_BLOCK
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: MIXTURE_BLOCK - shares.sum()]] += 1
    return shares.tolist()


class RankBatches(Sampler[list[int]]):
    """Positions of one rank's batches from `start` to `steps`: its slice of every global batch."""

    def __init__(self, start: int, steps: int, batch_size: int, rank: int, world: int) -> None:
        self.start, self.steps, self.batch_size, self.rank, self.world = start, steps, batch_size, rank, world

    def __len__(self) -> int:
        return max(0, self.steps - self.start)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.steps):
            first = (step * self.world + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))
