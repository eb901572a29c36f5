"""The order in which samples are seen, as a pure function of the seed: nothing to store, nothing to replay.

A sample's position counts all samples of all ranks since step 0. Each pass over the data is a new pseudo-random
permutation, evaluated index by index (a Feistel network with cycle walking), so seeking to any step costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from torch.utils.data import Sampler

ROUNDS = 4


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
