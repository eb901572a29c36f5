"""Spherical k-means (faiss), flat and in levels, always seeded."""

from collections.abc import Sequence

import faiss
import numpy as np


def fit_spherical_kmeans(vectors: np.ndarray, num_clusters: int, *, iterations: int, random_seed: int) -> np.ndarray:
    """Return unit centroids float32 [min(num_clusters, N), D] of unit vectors [N, D]."""
    num_clusters = min(num_clusters, len(vectors))
    kmeans = faiss.Kmeans(
        vectors.shape[1],
        num_clusters,
        niter=iterations,
        seed=random_seed,
        spherical=True,
        min_points_per_centroid=1,
    )
    kmeans.train(vectors)
    return np.asarray(kmeans.centroids)


def assign(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the index of the nearest centroid by cosine, int32 [N]."""
    if not len(vectors):
        return np.empty(0, dtype=np.int32)
    _, nearest = faiss.knn(vectors, centroids, 1, metric=faiss.METRIC_INNER_PRODUCT)
    return nearest[:, 0].astype(np.int32)


def fit_hierarchy(vectors: np.ndarray, levels: Sequence[int], *, iterations: int, random_seed: int) -> list[np.ndarray]:
    """Cluster vectors, then the centroids, and so on (Vo et al., arXiv 2405.15613).

    Returns one int32 array per level, finest first: cluster of each vector, then parent of each finer cluster.
    """
    parents = []
    for level, num_clusters in enumerate(levels):
        centroids = fit_spherical_kmeans(vectors, num_clusters, iterations=iterations, random_seed=random_seed + level)
        parents.append(assign(vectors, centroids))
        vectors = centroids
    return parents


def effective_clusters(clusters: np.ndarray) -> float:
    """Return exp(entropy) of the cluster sizes: how many equal clusters would be as diverse."""
    sizes = np.unique(clusters, return_counts=True)[1]
    shares = sizes / max(1, sizes.sum())
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(sizes) else 0.0
