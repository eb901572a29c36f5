"""Pairs of near vectors: what a search leaves in files, and how the files become one ordered stream."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lvd_curate.engine.artifacts import write_whole

MATCH = np.dtype([("first", "<i8"), ("second", "<i8"), ("similarity", "<f4")])
PAIRS_AT_ONCE = 1 << 20  # yielded together, about: 20 MB


class Pairs(NamedTuple):
    """Some pairs and how alike they are."""

    first: np.ndarray  # int64 [P], position of the query, or the lower position of the two
    second: np.ndarray  # int64 [P], position of its match, or the higher one
    similarity: np.ndarray  # float32 [P], cosine


def keep_best(pairs: Pairs, count: int) -> Pairs:
    """Return the `count` best of each `first`, best first; among equals the lowest `second` wins."""
    order = np.lexsort((pairs.second, -pairs.similarity, pairs.first))
    first = pairs.first[order]
    starts = np.flatnonzero(np.diff(first, prepend=first[:1] - 1))
    rank = np.arange(len(first)) - np.repeat(starts, np.diff(starts, append=len(first)))
    order = order[rank < count]
    return Pairs(pairs.first[order], pairs.second[order], pairs.similarity[order])


def unify(pairs: Pairs, *, undirected: bool) -> Pairs:
    """Return each pair once, ordered by first and second; an undirected pair has its lower position first."""
    first, second, similarity = pairs
    if undirected:
        first, second = np.minimum(first, second), np.maximum(first, second)
    order = np.lexsort((second, first))
    first, second, similarity = first[order], second[order], similarity[order]
    new = np.ones(len(first), dtype=bool)
    new[1:] = (np.diff(first) != 0) | (np.diff(second) != 0)
    return Pairs(first[new], second[new], similarity[new])


def join_pairs(parts: Sequence[Pairs]) -> Pairs:
    """Put pairs behind one another."""
    nothing = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    return Pairs(*map(np.concatenate, zip(*[nothing, *parts], strict=True)))


def write_pairs(pairs: Pairs, file: Path) -> None:
    """Write pairs, whole or not at all."""
    table = np.empty(len(pairs.first), dtype=MATCH)
    for name, values in zip(MATCH.names or (), pairs, strict=True):
        table[name] = values
    with write_whole(file) as stream:
        np.save(stream, table)


def read_pairs(file: Path, bounds: tuple[int, int] | None = None) -> Pairs:
    """Read a file of pairs; with bounds, of a file that `unify` ordered, only lower <= first < upper."""
    table = np.load(file, mmap_mode="r")
    if bounds is not None:
        start, stop = (bisect_left(table["first"], bound) for bound in bounds)  # numpy's search would copy the column
        table = table[start:stop]
    return Pairs(np.array(table["first"]), np.array(table["second"]), np.array(table["similarity"]))


def merge_files(files: Sequence[Path], num_rows: int) -> Iterator[Pairs]:
    """Yield the pairs of files that `unify` ordered, each pair once, in order, about a million at a time."""
    total = sum(file.stat().st_size for file in files) // MATCH.itemsize
    step = max(1, num_rows // (total // PAIRS_AT_ONCE + 1) + 1)
    for lower in range(0, num_rows, step):
        merged = unify(join_pairs([read_pairs(file, (lower, lower + step)) for file in files]), undirected=False)
        if len(merged.first):
            yield merged
