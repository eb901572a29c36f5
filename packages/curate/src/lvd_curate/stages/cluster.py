"""Cluster: flat spherical k-means over the clean pool, and the nearest cluster of every image (paper A.4)."""

import logging

import polars as pl

from lvd_curate.config import ClusterConfig
from lvd_curate.kmeans import assign, fit_spherical_kmeans
from lvd_curate.neighbours import to_matrix

VERSION = 1
PAPER_CLUSTERS = 100_000
IMAGES_PER_CLUSTER = 75  # of a small pool: above the 39 that faiss wants per centroid, and fine enough to tell concepts

logger = logging.getLogger(__name__)


def cluster(pool: pl.DataFrame, images: pl.DataFrame, config: ClusterConfig, random_seed: int) -> pl.DataFrame:
    """Return (id, cluster) for images with id and embedding; the centroids are fitted on the pool's alone.

    The paper's 100,000 clusters hold 7,440 of its images each; a pool that cannot fill them gets one per 75 images.
    """
    vectors = to_matrix(pool["embedding"].to_list())
    num_clusters = config.num_clusters or min(PAPER_CLUSTERS, max(1, len(pool) // IMAGES_PER_CLUSTER))
    logger.info("cluster: %d clusters over %d pool images", num_clusters, len(pool))
    centroids = fit_spherical_kmeans(vectors, num_clusters, iterations=config.iterations, random_seed=random_seed)
    clusters = assign(to_matrix(images["embedding"].to_list()), centroids)
    return images.select("id").with_columns(cluster=pl.Series(clusters, dtype=pl.Int32))
