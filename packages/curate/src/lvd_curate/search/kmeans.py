"""Spherical k-means (faiss), flat and in levels: fitted on a sample, assigned in pieces of work.

Seeding is by AFK-MC2 (Bachem et al., NeurIPS 2016), which draws from nearly the distribution of k-means++ at a
fraction of its passes. It matters more than anything else here: random seeds start most centroids in the few largest
concepts, and Lloyd steps do not bring them to the rare ones (benchmarks/curate/zipf_balance.py).
"""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np

from lvd_curate.engine.artifacts import Workbench, write_array
from lvd_curate.errors import InputError
from lvd_curate.vectors import Vectors

CHAIN, CHAINS = 50, 500_000  # of AFK-MC2: its authors' length, cut so that seeding stays cheaper than the Lloyd steps
POINTS_PER_CENTROID = 256  # to fit on, at most: faiss's own bound, above which centroids hardly move
FEWEST_POINTS = 40  # to fit on: faiss warns below 39
MOST_NUMBERS = 1 << 30  # of a sample with more points than that per centroid: 4 GB
BYTES_PER_NUMBER = 5  # of a sample in memory: float32, and what k-means needs beside it
ROWS = 16384  # assigned as one piece of work
CANDIDATES, RESCORED = 4, 1024  # centroids per vector compared again in float64, and vectors at once
NEAREST = np.dtype([("cluster", "<i4"), ("similarity", "<f4")])

logger = logging.getLogger(__name__)


class Assignment(NamedTuple):
    """The nearest centroid of every vector."""

    clusters: np.ndarray  # int32 [N]
    similarities: np.ndarray  # float32 [N], cosine


class Level(NamedTuple):
    """What one level of a hierarchy is made of."""

    num_clusters: int
    resampling: int  # refits on the points closest to each centroid
    closest: int  # points per centroid of such a refit


def fit_spherical_kmeans(vectors: np.ndarray, num_clusters: int, *, iterations: int, random_seed: int) -> np.ndarray:
    """Return distinct unit centroids float32 [K, D] of unit vectors float32 [N, D].

    K is num_clusters, or less when there are no more distinct vectors. A centroid that loses all its vectors takes half
    of a large one's (faiss). The same on any number of threads; on a GPU when faiss sees one.
    """
    num_clusters = min(num_clusters, len(vectors))
    kmeans = faiss.Kmeans(
        vectors.shape[1],
        num_clusters,
        niter=iterations,
        seed=random_seed,
        spherical=True,
        init_method=faiss.ClusteringInitMethod_AFK_MC2,
        afkmc2_chain_length=max(1, min(CHAIN, CHAINS // num_clusters)),
        min_points_per_centroid=1,
        max_points_per_centroid=POINTS_PER_CENTROID,
        gpu=count_gpus() > 0,
    )
    kmeans.train(vectors)
    centroids = np.asarray(kmeans.centroids)
    _, first = np.unique(centroids, axis=0, return_index=True)
    return centroids[np.sort(first)]


def fit_on_sample(
    vectors: Vectors, num_clusters: int, name: str, *, iterations: int, random_seed: int, bench: Workbench
) -> Vectors:
    """Return unit centroids in a file of the bench, fitted on a sample of 256 vectors each, fewer where they are many.

    Raises InputError when the memory allowed does not hold the sample: its size decides the clusters, so it may depend
    on nothing else.
    """
    count = min(len(vectors), count_fitting(num_clusters, vectors.dim))
    needed = count * max(1, vectors.dim) * BYTES_PER_NUMBER
    if needed > bench.max_bytes:
        raise InputError(
            f"{name}: {num_clusters} clusters are fitted on {count} vectors, which takes {needed / 1e9:.1f} GB, and "
            f"{bench.max_bytes / 1e9:.1f} GB are allowed; raise execution.max_ram_gb or ask for fewer clusters"
        )
    if count < len(vectors):
        logger.info("%s: %d clusters fitted on %d of %d vectors", name, num_clusters, count, len(vectors))
        draw = np.random.default_rng(random_seed)
        vectors = vectors[np.sort(draw.choice(len(vectors), count, replace=False))]
    return keep_centroids(vectors, num_clusters, name, iterations=iterations, random_seed=random_seed, bench=bench)


def count_fitting(num_clusters: int, dim: int) -> int:
    """Return how many vectors this many clusters are fitted on: 256 each, but no more numbers than 4 GB hold, if 40."""
    return min(POINTS_PER_CENTROID * num_clusters, max(FEWEST_POINTS * num_clusters, MOST_NUMBERS // max(1, dim)))


def keep_centroids(
    vectors: Vectors, num_clusters: int, name: str, *, iterations: int, random_seed: int, bench: Workbench
) -> Vectors:
    """Fit on all these vectors and leave the centroids in `NAME.npy`, float32 [K, D], unless they are there."""
    file = bench.folder / f"{name}.npy"
    if not file.exists():
        bench.folder.mkdir(parents=True, exist_ok=True)
        fitted = fit_spherical_kmeans(vectors.load(), num_clusters, iterations=iterations, random_seed=random_seed)
        write_array(fitted, file)
    return Vectors(file, np.arange(len(np.load(file, mmap_mode="r"))))


def assign(vectors: Vectors, centroids: Vectors, name: str, bench: Workbench) -> Assignment:
    """Find every vector's nearest centroid, piece by piece; among equals the lowest number wins."""
    folder = bench.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [
        (vectors[start : start + ROWS], folder / f"assigned-{start:012d}.npy") for start in range(0, len(vectors), ROWS)
    ]
    found = [np.empty(0, dtype=NEAREST)]
    found += [np.load(file) for file in bench.executor.map(partial(assign_piece, centroids.file), pieces)]
    nearest = np.concatenate(found)
    return Assignment(nearest["cluster"], nearest["similarity"])


def assign_piece(centroids: Path, piece: tuple[Vectors, Path]) -> Path:
    """Leave NEAREST [N] in the piece's file, unless it is there; return the file."""
    vectors, file = piece
    if not file.exists():
        similarities, clusters = find_best_match(vectors.load(), np.load(centroids, mmap_mode="r"))
        nearest = np.empty(len(vectors), dtype=NEAREST)
        nearest["cluster"], nearest["similarity"] = clusters, similarities
        write_array(nearest, file)
    return file


def find_best_match(vectors: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return cosine float32 and index int64 [N] of the unit vector in `centroids` [K, D] most like each of [N, D].

    The lowest index wins among equals. faiss's float32 sums depend on how many vectors it is given: its best few are
    compared again in float64, each by itself. On one thread, as pieces of work run side by side.
    """
    count = min(CANDIDATES, len(centroids))
    knn = partial(faiss.knn_gpu, faiss.StandardGpuResources()) if count_gpus() else faiss.knn
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        _, candidates = knn(vectors, centroids, count, metric=faiss.METRIC_INNER_PRODUCT)
    finally:
        faiss.omp_set_num_threads(threads)
    candidates = np.sort(np.asarray(candidates), axis=1)
    similarities = np.empty(len(vectors), dtype=np.float32)
    nearest = np.empty(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), RESCORED):
        part = slice(start, start + RESCORED)
        rivals = centroids[candidates[part]].astype(np.float64)  # [P, C, D]
        scores = np.einsum("pd,pcd->pc", vectors[part].astype(np.float64), rivals)
        best = scores.argmax(axis=1, keepdims=True)
        similarities[part] = np.take_along_axis(scores, best, 1)[:, 0]
        nearest[part] = np.take_along_axis(candidates[part], best, 1)[:, 0]
    return similarities, nearest


def fit_hierarchy(
    vectors: Vectors, levels: Sequence[Level], *, iterations: int, random_seed: int, bench: Workbench
) -> list[Assignment]:
    """Cluster vectors, then the centroids, and so on, each level with resampling (Vo et al., arXiv 2405.15613).

    Resampling flattens a level further: centroids are fitted anew on the points closest to each of the last ones, a set
    that follows the density of centroids and no longer that of the data.
    Returns one assignment per level, finest first: of the vectors, then of each finer level's centroids.
    """
    levels_assigned = []
    for number, level in enumerate(levels):
        name = f"level-{number + 1}"
        centroids = fit_on_sample(
            vectors, level.num_clusters, name, iterations=iterations, random_seed=random_seed + number, bench=bench
        )
        assigned = assign(vectors, centroids, f"{name}-assigned", bench)
        for step in range(1, level.resampling + 1):
            name = f"level-{number + 1}-refit-{step}"
            most = count_fitting(len(centroids), vectors.dim) // len(centroids)
            rows = pick_closest(assigned, max(1, min(level.closest, most)))
            seed = derive_seed(random_seed, number, step)
            centroids = keep_centroids(
                vectors[rows], level.num_clusters, name, iterations=iterations, random_seed=seed, bench=bench
            )
            assigned = assign(vectors, centroids, f"{name}-assigned", bench)
        used = len(np.unique(assigned.clusters))
        logger.info("level %d: %d clusters, %d of them empty", number + 1, len(centroids), len(centroids) - used)
        levels_assigned.append(assigned)
        vectors = centroids
    return levels_assigned


def pick_closest(assigned: Assignment, count: int) -> np.ndarray:
    """Return the positions, rising, of the `count` vectors most like each centroid; among equals the first."""
    order = np.lexsort((-assigned.similarities, assigned.clusters))
    sorted_clusters = assigned.clusters[order]
    rank = np.arange(len(order)) - np.searchsorted(sorted_clusters, sorted_clusters)
    return np.sort(order[rank < count])


def effective_clusters(clusters: np.ndarray) -> float:
    """Return exp(entropy) of the cluster sizes: how many equal clusters would be as diverse."""
    sizes = np.unique(clusters, return_counts=True)[1]
    shares = sizes / max(1, sizes.sum())
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(sizes) else 0.0


def derive_seed(random_seed: int, *path: int) -> int:
    """Return a seed for one of several draws, 31 bits as faiss takes them."""
    return int(np.random.SeedSequence([random_seed, *path]).generate_state(1)[0] >> 1)


def count_gpus() -> int:
    """Return how many GPUs faiss can use; faiss-cpu has no word for it."""
    return int(getattr(faiss, "get_num_gpus", lambda: 0)())
