"""How many concepts rebalancing keeps alive in a long tail, against a random draw and flat k-means.

    python -m benchmarks.curate.zipf_balance [--spread 0.5 1.0] [--unequal 1 2 3] [--seeds 3]

The pool: 60,000 unit vectors in 64 dimensions of 300 concepts whose sizes fall as 1 / rank^1.2. `spread` is the length
of a concept's noise beside the length 1 of its centre; `unequal` the factor by which concepts may have less or more of
it. 10 % is kept. Printed: effective concepts, exp(entropy) of the true concepts kept, as the median over seeds of pool
and method; the ratio is to flat k-means with equal quotas and as many clusters as our finest level, seeded at random as
faiss does by default and seeded as ours.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import polars as pl
from benchmarks.turns import Target, record

from lvd_curate.config import RebalanceConfig
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.search.kmeans import effective_clusters, find_best_match, fit_spherical_kmeans
from lvd_curate.stages.rebalance import ITERATIONS, rebalance, sample_top_down, scale_levels
from lvd_curate.vectors import Vectors

VECTORS, DIM, CONCEPTS, FALL, KEPT = 60_000, 64, 300, 1.2, 0.10
MAX_BYTES = 1 << 30
WANTED = 3.0  # times the effective concepts of flat k-means


def draw_pool(seed: int, spread: float, unequal: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw unit vectors float32 [VECTORS, DIM] and their concepts."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(CONCEPTS, DIM))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    weights = np.arange(1, CONCEPTS + 1) ** -FALL
    sizes = np.floor(weights / weights.sum() * VECTORS).astype(int)
    sizes[0] += VECTORS - sizes.sum()
    concepts = np.repeat(np.arange(CONCEPTS), sizes)
    spreads = spread * unequal ** draw.uniform(-1, 1, CONCEPTS)
    vectors = centres[concepts] + draw.normal(size=(VECTORS, DIM)) * spreads[concepts, None] / np.sqrt(DIM)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), concepts


def fit_at_random(vectors: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Fit flat k-means as faiss does by itself."""
    kmeans = faiss.Kmeans(DIM, num_clusters, niter=ITERATIONS, seed=seed, spherical=True, min_points_per_centroid=1)
    kmeans.train(vectors)
    return np.asarray(kmeans.centroids)


def fit_seeded(vectors: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Fit flat k-means with our seeding."""
    return fit_spherical_kmeans(vectors, num_clusters, iterations=ITERATIONS, random_seed=seed)


def keep_flat(fit: Callable[..., np.ndarray], vectors: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Keep the target with an equal quota for every flat cluster."""
    _, clusters = find_best_match(vectors, fit(vectors, num_clusters, seed))
    draw = np.random.default_rng(seed)
    return sample_top_down(clusters[:, None], round(KEPT * VECTORS), draw.permutation(VECTORS), draw)


def keep_balanced(vectors: np.ndarray, config: RebalanceConfig, seed: int) -> np.ndarray:
    """Keep the target with the stage itself."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "vectors.npy", vectors.astype("<f2"))
        stored = Vectors(Path(folder) / "vectors.npy", np.arange(VECTORS))
        ids = pl.DataFrame({"id": np.arange(VECTORS).astype(str)})
        bench = Workbench(Path(folder) / "bench", InlineExecutor(), MAX_BYTES)
        return rebalance(ids, stored, config, seed, bench)["kept"].to_numpy()


def measure(spread: float, unequal: float, seed: int, config: RebalanceConfig) -> dict[str, float]:
    """Return effective concepts of every way, and the CPU seconds of ours."""
    vectors, concepts = draw_pool(seed, spread, unequal)
    target, finest = round(KEPT * VECTORS), scale_levels(config, VECTORS)[0]
    kept = {
        "random": np.random.default_rng(seed).permutation(VECTORS)[:target],
        "flat": keep_flat(fit_at_random, vectors, finest, seed),
        "flat, our seeding": keep_flat(fit_seeded, vectors, finest, seed),
        "flat, 300 clusters": keep_flat(fit_at_random, vectors, CONCEPTS, seed),
    }
    started = time.process_time()
    kept["ours"] = keep_balanced(vectors, config, seed)
    seconds = time.process_time() - started
    sizes = {name: effective_clusters(concepts[rows]) for name, rows in kept.items()}
    assert len(concepts[kept["ours"]]) == target
    return {"raw": effective_clusters(concepts), **sizes, "CPU s": seconds}


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spread", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument("--unequal", type=float, nargs="+", default=[1.0, 2.0, 3.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--levels", type=int, nargs="*", default=[])
    parser.add_argument("--finest-resampling", type=int, default=RebalanceConfig().finest_resampling)
    parser.add_argument("--resampling", type=int, default=RebalanceConfig().resampling)
    given = parser.parse_args()
    config = RebalanceConfig(
        target_size=round(KEPT * VECTORS),
        levels=given.levels,
        finest_resampling=given.finest_resampling,
        resampling=given.resampling,
    )
    rows = []
    for unequal in given.unequal:
        for spread in given.spread:
            runs = [measure(spread, unequal, seed, config) for seed in range(given.seeds)]
            row = {"spread": spread, "unequal": unequal}
            row |= {name: round(float(np.median([run[name] for run in runs])), 1) for name in runs[0]}
            for name in ("flat", "flat, our seeding"):
                row[f"ratio to {name}"] = round(float(np.median([run["ours"] / run[name] for run in runs])), 2)
            row["worst ratio to flat"] = round(min(run["ours"] / run["flat"] for run in runs), 2)
            sys.stdout.write("  ".join(f"{name} {value}" for name, value in row.items()) + "\n")
            sys.stdout.flush()
            rows.append(row)
    figures = {
        "levels": scale_levels(config, VECTORS),
        "resampling": [config.finest_resampling, config.resampling],
        "seeds": given.seeds,
        "effective_concepts": rows,
    }
    targets = [
        Target(f"ratio to flat, spread {row['spread']}, unequal {row['unequal']}", row["ratio to flat"], WANTED)
        for row in rows
    ]
    record("curate/zipf_balance", figures, targets, ("lvd-curate", "faiss-gpu", "numpy"))


if __name__ == "__main__":
    main()
