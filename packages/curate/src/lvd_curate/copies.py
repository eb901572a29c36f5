"""Which images of one table are copies of images of another: by perceptual hash, and by embedding where there is one.

A hash alone either misses copies or joins strangers. Here it only proposes: pairs at most `distance` bits apart,
mirrored or not, are confirmed when their 16x16 thumbnails correlate.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from lvd_curate.hashing import FLIP_MASK, correlate, stack_thumbnails
from lvd_curate.neighbours import find_hash_pairs, find_similar_pairs, to_matrix

BLOCK = 65536  # pairs whose thumbnails are compared at once: 128 MB


class CopyBars(NamedTuple):
    """From where on two images are copies."""

    hash_distance: int  # bits of 64, at most
    hash_correlation: float  # of the thumbnails, at least
    neighbours: int  # k of the embedding search
    similarity: float  # cosine, above


class Copies(NamedTuple):
    """Confirmed pairs: row of the first table, row of the second, and how alike they are."""

    pairs: np.ndarray  # int64 [P, 2]
    scores: np.ndarray  # float32 [P], thumbnail correlation or cosine


def find_copies(queries: pl.DataFrame, database: pl.DataFrame, bars: CopyBars) -> Copies:
    """Find copies of `queries` in `database`; both have columns id, hash, thumbnail and, to be used, embedding.

    Equal ids are copies with score 1. A table compared with itself also yields every row paired with itself.
    """
    found = [find_equal(queries, database), find_hashed(queries, database, bars)]
    if "embedding" in queries.columns:
        mine, theirs = (to_matrix(table["embedding"].to_list()) for table in (queries, database))
        found.append(Copies(*find_similar_pairs(mine, theirs, bars.neighbours, bars.similarity)))
    pairs = np.concatenate([part.pairs for part in found])
    scores = np.concatenate([part.scores for part in found])
    order = np.lexsort((-scores, pairs[:, 1], pairs[:, 0]))
    pairs, first = np.unique(pairs[order], axis=0, return_index=True)
    return Copies(pairs, scores[order][first])


def find_equal(queries: pl.DataFrame, database: pl.DataFrame) -> Copies:
    """Pair rows of equal bytes."""
    left = queries.select("id").with_row_index("query")
    right = database.select("id").with_row_index("match")
    pairs = left.join(right, on="id").select("query", "match").to_numpy().astype(np.int64)
    return Copies(pairs, np.ones(len(pairs), dtype=np.float32))


def find_hashed(queries: pl.DataFrame, database: pl.DataFrame, bars: CopyBars) -> Copies:
    """Pair rows whose hashes are close, mirrored or not, and whose thumbnails agree."""
    rows, hashes = hashed_rows(queries)
    other_rows, other_hashes = hashed_rows(database)
    found = [find_hash_pairs(hashes ^ mask, other_hashes, bars.hash_distance) for mask in (np.uint64(0), FLIP_MASK)]
    proposed = np.unique(np.concatenate(found), axis=0)
    pairs = np.stack([rows[proposed[:, 0]], other_rows[proposed[:, 1]]], axis=1)
    scores = score_pairs(pairs, queries, database)
    alike = scores >= bars.hash_correlation
    return Copies(pairs[alike], scores[alike])


def hashed_rows(table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the row numbers that have a hash, int64, and those hashes, uint64."""
    present = table.select("hash").with_row_index("row").drop_nulls()
    return present["row"].to_numpy().astype(np.int64), present["hash"].to_numpy()


def score_pairs(pairs: np.ndarray, left: pl.DataFrame, right: pl.DataFrame) -> np.ndarray:
    """Return how alike the thumbnails of row pairs [P, 2] are, mirrored where that fits better; float32 [P]."""
    scores = [np.empty(0, dtype=np.float32)]
    for start in range(0, len(pairs), BLOCK):
        block = pairs[start : start + BLOCK]
        first = stack_thumbnails(left["thumbnail"].gather(block[:, 0]).to_list())
        second = stack_thumbnails(right["thumbnail"].gather(block[:, 1]).to_list())
        scores.append(correlate(first, second))
    return np.concatenate(scores)
