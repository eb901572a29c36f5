"""Which images are copies of which: by perceptual hash, and by embedding where there is a copy-detection encoder.

A hash alone either misses copies or joins strangers. Here it only proposes; aligned thumbnails confirm (`hash_join`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from lvd_curate.copy_detection.alignment import compare
from lvd_curate.copy_detection.hash_join import Hashed, find_hashed_pairs
from lvd_curate.copy_detection.hashing import pack_halves
from lvd_curate.copy_detection.views import MIRROR, VIEWS
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.search.neighbours import find_pairs_between, find_pairs_within
from lvd_curate.vectors import Vectors

BLOCK = 4096  # pairs whose thumbnails or vectors are read at once


class CopyBars(NamedTuple):
    """From where on two images are copies."""

    hash_distance: int  # bits of 128, at most
    hash_correlation: float  # of the aligned thumbnails at that distance, at least
    neighbours: int  # k of the embedding search
    similarity: float  # cosine, above


class Looks(NamedTuple):
    """What tells copies of some images."""

    table: pl.DataFrame  # id, local_hash, global_hash, row (of the thumbnails) and, with an encoder, vector (a row too)
    thumbnails: Path  # .npy uint8 [M, 1024]
    vectors: Path | None  # .npy float16 [M, D]

    def embedded(self) -> Vectors:
        """Return the vectors, in the table's order."""
        assert self.vectors is not None
        return Vectors(self.vectors, self.table["vector"].to_numpy())

    def hashed(self) -> Hashed:
        """Return the images that have a hash."""
        present = self.table.select("row", "local_hash", "global_hash").with_row_index("position").drop_nulls()
        hashes = pack_halves(present["local_hash"].to_numpy(), present["global_hash"].to_numpy())
        rows, positions = (present[name].to_numpy().astype(np.int64) for name in ("row", "position"))
        return Hashed(self.thumbnails, rows, positions, hashes)


class Copies(NamedTuple):
    """Confirmed pairs: position in the first table, position in the second, and how alike they are."""

    pairs: np.ndarray  # int64 [P, 2]
    scores: np.ndarray  # float32 [P], likeness of thumbnails and hashes (`hash_join`), or cosine

    @classmethod
    def none(cls) -> "Copies":
        """Return no pairs."""
        return cls(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.float32))


def find_copies_within(images: Looks, bars: CopyBars, bench: Workbench) -> Iterator[Copies]:
    """Yield the pairs of copies among images of different ids, piece by piece; a pair may come more than once."""
    found = find_hashed_pairs(images.hashed(), None, bars.hash_distance, bars.hash_correlation, bench)
    yield from (Copies(np.stack([first, second], axis=1), scores) for first, second, scores in found)
    if images.vectors is not None:
        near = find_pairs_within(images.embedded(), bars.neighbours, bars.similarity, bench)
        yield from (Copies(np.stack([first, second], axis=1), scores) for first, second, scores in near)


def find_copies_between(images: Looks, references: Looks, bars: CopyBars, bench: Workbench) -> Iterator[Copies]:
    """Yield the pairs (image, reference) that are copies, piece by piece; a pair may come more than once.

    Equal ids are copies with score 1.
    """
    yield find_equal(images.table, references.table)
    ours, theirs = images.hashed(), references.hashed()
    bar = (bars.hash_distance, bars.hash_correlation)
    for first, second, scores in find_hashed_pairs(ours, theirs, *bar, bench):  # references inside frames or uncut
        yield Copies(np.stack([first, second], axis=1), scores)
    for first, second, scores in find_hashed_pairs(theirs, ours, *bar, bench):  # and images
        yield Copies(np.stack([second, first], axis=1), scores)
    if images.vectors is not None and references.vectors is not None:
        near = find_pairs_between(images.embedded(), references.embedded(), bars.neighbours, bars.similarity, bench)
        yield from (Copies(np.stack([first, second], axis=1), scores) for first, second, scores in near)


def find_equal(images: pl.DataFrame, references: pl.DataFrame) -> Copies:
    """Pair rows of equal bytes."""
    left = images.select("id").with_row_index("image")
    right = references.select("id").with_row_index("reference")
    pairs = left.join(right, on="id").select("image", "reference").to_numpy().astype(np.int64)
    return Copies(pairs, np.ones(len(pairs), dtype=np.float32))


def score_pairs(pairs: np.ndarray, images: Looks) -> np.ndarray:
    """Return how alike pairs [P, 2] are, float32 [P]: cosines with an encoder, else the likeness of the thumbnails."""
    scores = [np.empty(0, dtype=np.float32)]
    for start in range(0, len(pairs), BLOCK):
        first, second = pairs[start : start + BLOCK].T
        if images.vectors is not None:
            vectors = images.embedded()
            scores.append((vectors[first].load() * vectors[second].load()).sum(axis=1))
            continue
        rows, thumbnails = images.table["row"].to_numpy(), np.load(images.thumbnails, mmap_mode="r")
        left, right = thumbnails[rows[first]], thumbnails[rows[second]]
        whole = np.broadcast_to(VIEWS[0], (len(first), 2, 3))
        scores.append(np.maximum(compare(left, right, whole), compare(left, right, whole * MIRROR)))
    return np.concatenate(scores)
