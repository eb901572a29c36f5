"""Rebalance: keep a target number of images, spread evenly over concepts at every level of a k-means hierarchy.

Vo et al., arXiv 2405.15613: flat k-means copies the density of the data; k-means on centroids flattens it. The target
is handed down from the coarsest level: every cluster may give up to a common cap, chosen so that the sum fits.
"""

import numpy as np
import polars as pl

from lvd_curate.config import RebalanceConfig
from lvd_curate.kmeans import fit_hierarchy
from lvd_curate.neighbours import to_matrix

VERSION = 1
ITERATIONS = 20  # Lloyd steps per level


def rebalance(images: pl.DataFrame, config: RebalanceConfig, random_seed: int) -> pl.DataFrame:
    """Return (id, clusters list<int32> finest first, kept) for images with id and embedding."""
    assert config.target_size is not None
    levels = config.levels or [max(1, len(images) // 20), max(1, len(images) // 200)]
    vectors = to_matrix(images["embedding"].to_list())
    parents = fit_hierarchy(vectors, levels, iterations=ITERATIONS, random_seed=random_seed)
    path = [parents[0]]
    for parent in parents[1:]:
        path.append(parent[path[-1]])
    clusters = np.stack(path, axis=1)  # [N, levels], finest first
    kept = sample_top_down(clusters, config.target_size, np.random.default_rng(random_seed))
    return images.select("id").with_columns(
        clusters=pl.Series(clusters.tolist(), dtype=pl.List(pl.Int32)), kept=pl.Series(kept)
    )


def sample_top_down(clusters: np.ndarray, target: int, draw: np.random.Generator) -> np.ndarray:
    """Return a mask of `target` rows (all, when fewer) of [N, levels], shared out from the last column to the first."""
    kept = np.zeros(len(clusters), dtype=bool)
    pending = [(np.arange(len(clusters)), clusters.shape[1] - 1, target)]
    while pending:
        rows, level, quota = pending.pop()
        if level < 0:
            kept[draw.permutation(rows)[:quota]] = True
            continue
        _, inverse, sizes = np.unique(clusters[rows, level], return_inverse=True, return_counts=True)
        for number, share in enumerate(allocate(sizes, quota, draw)):
            if share:
                pending.append((rows[inverse == number], level - 1, int(share)))
    return kept


def allocate(sizes: np.ndarray, target: int, draw: np.random.Generator) -> np.ndarray:
    """Share `target` over clusters: all give min(size, cap) for the largest cap that fits, the rest is drawn by lot."""
    if target >= sizes.sum():
        return sizes
    low, high = 0, int(sizes.max())  # sum at low <= target < sum at high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if np.minimum(sizes, middle).sum() <= target else (low, middle)
    shares = np.minimum(sizes, low)
    larger = np.flatnonzero(sizes > low)
    shares[draw.permutation(larger)[: target - shares.sum()]] += 1
    return shares
