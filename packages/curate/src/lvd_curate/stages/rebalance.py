"""Rebalance: keep a target number of images, spread evenly over concepts at every level of a k-means hierarchy.

Vo et al., arXiv 2405.15613: flat k-means copies the density of the data; k-means on centroids flattens it. The target
is handed down from the coarsest level: every cluster may give up to a common cap, chosen so that the sum fits.
"""

import numpy as np
import polars as pl

from lvd_curate.config import RebalanceConfig
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.search.kmeans import Level, fit_hierarchy
from lvd_curate.vectors import Vectors

VERSION = 2
ITERATIONS = 20  # Lloyd steps per fit
# images per finest cluster, for up to so many clusters (Vo et al.: the last)
FINEST = ((5, 3000), (20, 50_000), (75, 10_000_000))
RATIO, SMALL_RATIO = 10, 2  # clusters per cluster of the next level; the second while that has fewer than ENOUGH
ENOUGH = 100  # clusters: a coarser level than the concepts gives equal shares to unequal numbers of them
COARSEST = 10_000  # a level of more clusters gets another above it (Vo et al. end at 10,000)


def rebalance(
    images: pl.DataFrame, vectors: Vectors, config: RebalanceConfig, random_seed: int, bench: Workbench
) -> pl.DataFrame:
    """Return (id, clusters List(Int32) finest first, kept Boolean) for images whose vectors lie parallel."""
    assert config.target_size is not None
    levels = plan_levels(config, len(images))
    hierarchy = fit_hierarchy(vectors, levels, iterations=ITERATIONS, random_seed=random_seed, bench=bench)
    path = [hierarchy[0].clusters]
    for level in hierarchy[1:]:
        path.append(level.clusters[path[-1]])
    clusters = np.stack(path, axis=1)  # [N, levels], finest first
    draw = np.random.default_rng(random_seed)
    order = draw.permutation(len(images)) if config.leaves == "random" else -hierarchy[0].similarities
    kept = sample_top_down(clusters, config.target_size, order, draw)
    columns = pl.DataFrame(clusters, schema=[(f"level-{number}", pl.Int32) for number in range(len(levels))])
    return images.select("id").with_columns(
        clusters=columns.select(pl.concat_list(pl.all())).to_series(), kept=pl.Series(kept)
    )


def scale_levels(config: RebalanceConfig, num_images: int) -> list[int]:
    """Return the clusters of each level, finest first.

    On Zipf pools of 60,000, clusters of 20 images and a level of a tenth of them above kept nearly all concepts
    (benchmarks/curate/zipf_balance.py); of a thousand photographs, clusters of 5 kept more classes than of 20, and a
    level of 10 above them fewer than a random draw (tiny_imagenet_retrieval.py).
    """
    if config.levels:
        return list(config.levels)
    finest = max(1, *(min(num_images // images, most) for images, most in FINEST))
    levels = [finest, max(1, finest // RATIO, min(finest // SMALL_RATIO, ENOUGH))]
    while levels[-1] > COARSEST:
        levels.append(levels[-1] // RATIO)
    return levels


def plan_levels(config: RebalanceConfig, num_images: int) -> list[Level]:
    """Return the levels with their resampling; by default on half a mean cluster's points (Vo et al.)."""
    levels, points = [], num_images
    for number, num_clusters in enumerate(scale_levels(config, num_images)):
        steps = config.resampling if number else config.finest_resampling
        given = config.resampling_points[number : number + 1] or config.resampling_points[-1:]
        levels.append(Level(num_clusters, steps, given[0] if given else max(1, points // (2 * num_clusters))))
        points = num_clusters
    return levels


def sample_top_down(clusters: np.ndarray, target: int, order: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return a mask of `target` rows (all, when fewer) of [N, levels], shared out from the last column to the first.

    A finest cluster gives its rows of the lowest `order` [N].
    """
    kept = np.zeros(len(clusters), dtype=bool)
    pending = [(np.arange(len(clusters)), clusters.shape[1] - 1, target)]
    while pending:
        rows, level, quota = pending.pop()
        if level < 0:
            kept[rows[np.argsort(order[rows], kind="stable")[:quota]]] = True
            continue
        _, inverse, sizes = np.unique(clusters[rows, level], return_inverse=True, return_counts=True)
        members = np.split(rows[np.argsort(inverse, kind="stable")], np.cumsum(sizes)[:-1])
        shares = allocate(sizes, quota, draw)
        pending += [(mine, level - 1, int(share)) for mine, share in zip(members, shares, strict=True) if share]
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
