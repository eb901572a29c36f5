"""Cluster: flat spherical k-means over the clean pool, and the nearest cluster of every image (paper A.4)."""

import logging

import polars as pl

from lvd_curate.config import ClusterConfig
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.search.kmeans import assign, fit_on_sample
from lvd_curate.vectors import Vectors

VERSION = 2
PAPER_CLUSTERS = 100_000
IMAGES_PER_CLUSTER = 75  # of a small pool: above the 39 that faiss wants per centroid, and fine enough to tell concepts

logger = logging.getLogger(__name__)


def cluster(
    pool: Vectors, images: pl.DataFrame, vectors: Vectors, config: ClusterConfig, random_seed: int, bench: Workbench
) -> pl.DataFrame:
    """Return (id, cluster Int32) for the images, whose vectors lie parallel; centroids are fitted on the pool's alone.

    They are fitted on a sample whose size the number of clusters decides, and assigned piece by piece.

    Raises:
        InputError: the memory that the bench may take does not hold the sample.
    """
    num_clusters = scale_clusters(config, len(pool))
    logger.info("cluster: %d clusters over %d pool images", num_clusters, len(pool))
    centroids = fit_on_sample(
        pool, num_clusters, "centroids", iterations=config.iterations, random_seed=random_seed, bench=bench
    )
    clusters = assign(vectors, centroids, "assigned", bench).clusters
    return images.select("id").with_columns(cluster=pl.Series(clusters, dtype=pl.Int32))


def scale_clusters(config: ClusterConfig, pool_size: int) -> int:
    """Return how many clusters the pool gets.

    The paper's 100,000 clusters hold 7,440 of its images each; a pool that cannot fill them gets one per 75 images.
    """
    return config.num_clusters or min(PAPER_CLUSTERS, max(1, pool_size // IMAGES_PER_CLUSTER))
