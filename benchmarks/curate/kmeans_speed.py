"""Our spherical k-means beside faiss' own on the same vectors: time, memory and objective.

    python -m benchmarks.curate.kmeans_speed [--vectors 150000] [--clusters 2000] [--rounds 2] [--quick]

The Lloyd steps are faiss' in both. Ours seeds them by AFK-MC2 where faiss draws vectors at random, so what is compared
is what the seeding costs and what it brings. The vectors are unit, 128-d, of 2,000 concepts whose sizes fall as
1 / rank. The objective is the mean cosine of a vector to its nearest centroid, searched exactly.
"""

import argparse
import json
import sys
from collections.abc import Callable

import faiss
import numpy as np
from benchmarks.turns import Meter, Target, best, in_turn, record

from lvd_curate.search.kmeans import POINTS_PER_CENTROID, fit_spherical_kmeans

DIM, CONCEPTS, SPREAD, ITERATIONS, SEED = 128, 2000, 1.0, 20, 0
QUICK = {"vectors": 6000, "clusters": 80, "rounds": 1}
SLOWEST, MOST_MEMORY = 1.25, 1.25  # of faiss' time and memory


def draw_vectors(count: int) -> np.ndarray:
    """Draw unit vectors float32 [count, DIM] around concepts of very different sizes."""
    draw = np.random.default_rng(2026)
    centres = draw.standard_normal((CONCEPTS, DIM), dtype=np.float32)
    weights = 1 / np.arange(1, CONCEPTS + 1)
    vectors = centres[draw.choice(CONCEPTS, count, p=weights / weights.sum())]
    vectors += SPREAD * draw.standard_normal((count, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fit_ours(vectors: np.ndarray, clusters: int) -> np.ndarray:
    """Fit as the stages do."""
    return fit_spherical_kmeans(vectors, clusters, iterations=ITERATIONS, random_seed=SEED)


def fit_theirs(vectors: np.ndarray, clusters: int) -> np.ndarray:
    """Fit as faiss does by itself."""
    kmeans = faiss.Kmeans(
        DIM,
        clusters,
        niter=ITERATIONS,
        seed=SEED,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=POINTS_PER_CENTROID,
    )
    kmeans.train(vectors)
    return np.asarray(kmeans.centroids)


FITS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"ours": fit_ours, "faiss": fit_theirs}


def measure(who: str, count: int, clusters: int) -> dict[str, float]:
    """Fit in this process."""
    vectors = draw_vectors(count)
    fit_theirs(vectors[:1000], 10)  # starts the threads
    with Meter() as meter:
        centroids = FITS[who](vectors, clusters)
    cosines, _ = faiss.knn(vectors, centroids, 1, metric=faiss.METRIC_INNER_PRODUCT)
    return meter.figures | {"objective": float(cosines.mean())}


def main() -> None:
    """Measure in turn, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=150_000)
    parser.add_argument("--clusters", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a few thousand vectors, one round")
    parser.add_argument("--measure", choices=sorted(FITS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.quick:
        vars(given).update(QUICK)
    if given.measure:
        print(json.dumps(measure(given.measure, given.vectors, given.clusters)))
        return
    words = ["--vectors", given.vectors, "--clusters", given.clusters, "--measure"]
    command = [sys.executable, "-m", "benchmarks.curate.kmeans_speed", *words]
    runs = in_turn({who: [*command, who] for who in FITS}, given.rounds)
    ours, theirs = (best(runs[who]) for who in FITS)
    targets = [
        Target("our mean cosine over faiss'", ours["objective"] / theirs["objective"], 1.0),
        Target("our time over faiss'", ours["seconds"] / theirs["seconds"], SLOWEST, "at most"),
        Target("our memory over faiss'", ours["peak_mib"] / theirs["peak_mib"], MOST_MEMORY, "at most"),
    ]
    shapes = {"vectors": given.vectors, "dim": DIM, "clusters": given.clusters, "iterations": ITERATIONS}
    figures = {**shapes, "ours": ours, "faiss": theirs}
    record("curate/kmeans_speed", figures, targets, ("lvd-curate", "faiss-gpu", "numpy"))


if __name__ == "__main__":
    main()
