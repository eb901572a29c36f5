"""Retrieve: pool images that are like the seeds, for each seed image and for each cluster that seeds fall into.

DINOv2 (arXiv 2304.07193), A.4. Large seed sets take the N nearest pool images of every seed image; small ones take M
images of every cluster that holds more than 3 of their images, up to a cap. With a small pool both are done.
"""

import hashlib
import logging
import math
from typing import NamedTuple

import numpy as np
import polars as pl

from lvd_curate.columns import PICKS
from lvd_curate.config import RetrieveConfig
from lvd_curate.neighbours import find_nearest, to_matrix

VERSION = 1
SMALL_POOL = 100_000_000  # images; from here on the paper's own numbers hold
LARGE_SEED_SET = 1_000_000  # images from which on the paper retrieves per seed image
PAPER_PER_CLUSTER, PAPER_CAP = 10_000, 1_000_000
CLUSTER_SHARE = 1.34  # the paper's M over its mean cluster: 10,000 of 7,440
POOL_SHARE = 4  # one seed set's clusters may bring at most a quarter of a small pool

logger = logging.getLogger(__name__)


class Scale(NamedTuple):
    """The paper's numbers for this pool."""

    per_cluster: int
    max_per_set: int


class Images(NamedTuple):
    """Ids with unit vectors [N, D] and clusters [N]."""

    ids: np.ndarray
    vectors: np.ndarray
    clusters: np.ndarray


def retrieve(pool: pl.DataFrame, seeds: pl.DataFrame, config: RetrieveConfig, random_seed: int) -> pl.DataFrame:
    """Return PICKS: one row per pool image and reason it was chosen.

    Both tables have id, embedding and cluster, the seeds also `source`, the name of their set.
    """
    candidates = collect(pool)
    scale = scale_to_pool(len(pool), len(np.unique(candidates.clusters)), config)
    picks = [pl.DataFrame(schema=PICKS)]
    for (name,), members in seeds.group_by("source", maintain_order=True):
        seed_set = collect(members)
        modes = choose_modes(config.mode, len(pool), len(members))
        if "sample" in modes:
            picks.append(pick_nearest(candidates, seed_set, str(name), config.neighbours))
        if "cluster" in modes:
            picks.append(pick_clusters(candidates, seed_set, str(name), config.min_hits, scale, random_seed))
    return pl.concat(picks)


def choose_modes(mode: str, pool_size: int, seed_set_size: int) -> tuple[str, ...]:
    """Return which of sample and cluster retrieval one seed set gets."""
    if mode == "auto":
        mode = "both" if pool_size < SMALL_POOL else "sample" if seed_set_size > LARGE_SEED_SET else "cluster"
    return ("sample", "cluster") if mode == "both" else (mode,)


def scale_to_pool(pool_size: int, num_clusters: int, config: RetrieveConfig) -> Scale:
    """Shrink M and the cap to the pool, in the paper's proportions; what the user set stays."""
    mean = pool_size / max(1, num_clusters)
    per_cluster = config.per_cluster or min(PAPER_PER_CLUSTER, math.ceil(CLUSTER_SHARE * mean))
    max_per_set = config.max_per_set or min(PAPER_CAP, max(1, pool_size // POOL_SHARE))
    logger.info("retrieve: up to %d images per chosen cluster, %d per seed set", per_cluster, max_per_set)
    return Scale(per_cluster, max_per_set)


def pick_nearest(pool: Images, seeds: Images, name: str, neighbours: int) -> pl.DataFrame:
    """Take the nearest pool images of every seed image."""
    similarities, nearest = find_nearest(seeds.vectors, pool.vectors, neighbours)  # [S, N]
    count = nearest.shape[1]
    return pl.DataFrame(
        {
            "id": pool.ids[nearest.ravel()],
            "seed_set": [name] * nearest.size,
            "mode": ["sample"] * nearest.size,
            "seed_id": np.repeat(seeds.ids, count),
            "rank": np.tile(np.arange(1, count + 1), len(seeds.ids)),
            "similarity": similarities.ravel(),
        },
        schema=PICKS,
    )


def pick_clusters(
    pool: Images, seeds: Images, name: str, min_hits: int, scale: Scale, random_seed: int
) -> pl.DataFrame:
    """Draw images from every cluster that holds more than `min_hits` of the seeds, then cap the whole draw."""
    clusters, hits = np.unique(seeds.clusters, return_counts=True)
    chosen = clusters[hits > min_hits]
    if not len(chosen):
        logger.warning(
            "retrieve: no cluster holds more than %d seeds of %r: cluster retrieval finds none", min_hits, name
        )
    draw = np.random.default_rng(derive_seed(random_seed, name))
    picks = [np.empty(0, dtype=np.int64)]
    for number in chosen:
        members = np.flatnonzero(pool.clusters == number)
        picks.append(draw.permutation(members)[: scale.per_cluster])
    rows = np.sort(draw.permutation(np.concatenate(picks))[: scale.max_per_set])
    nearest, similarities = nearest_in_cluster(pool, seeds, rows)
    return pl.DataFrame(
        {
            "id": pool.ids[rows],
            "seed_set": [name] * len(rows),
            "mode": ["cluster"] * len(rows),
            "seed_id": seeds.ids[nearest],
            "rank": [None] * len(rows),
            "similarity": similarities,
        },
        schema=PICKS,
    )


def nearest_in_cluster(pool: Images, seeds: Images, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the seed of the same cluster that is most like each of these pool rows, and its cosine."""
    nearest, similarities = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.float32)
    for number in np.unique(pool.clusters[rows]):
        mine, theirs = np.flatnonzero(pool.clusters[rows] == number), np.flatnonzero(seeds.clusters == number)
        found, best = find_nearest(pool.vectors[rows[mine]], seeds.vectors[theirs], 1)
        nearest[mine], similarities[mine] = theirs[best[:, 0]], found[:, 0]
    return nearest, similarities


def collect(table: pl.DataFrame) -> Images:
    """Take a table's ids, vectors and clusters out into arrays."""
    vectors = to_matrix(table["embedding"].to_list())
    return Images(table["id"].to_numpy(), vectors, table["cluster"].to_numpy())


def derive_seed(random_seed: int, name: str) -> int:
    """Give each seed set its own draw, whatever other sets there are."""
    return int.from_bytes(hashlib.sha256(f"{random_seed}/{name}".encode()).digest()[:8])
