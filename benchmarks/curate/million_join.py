"""How fast the join of `curate build-lvd` finds the copies among a million embeddings, and what it misses.

    python -m benchmarks.curate.million_join [--vectors 1000000] [--workers 2] [--folder DIR] [--brute 100000]

The data: 512-d unit vectors of 5,000 concepts of very different sizes, same-concept cosine 0.35 to 0.45, of which 15 %
are copies of others at a cosine of 0.62 to 0.98. Joined at 0.6 with 64 neighbours each, then connected components, in
4 GB. Checked: every pair again in float64; recall against an exact search for 2,000 vectors that the join did not
choose; time against `faiss.knn` on a part, extrapolated with the square of the number.
"""

import argparse
import logging
import resource
import shutil
import tempfile
import threading
import time
from pathlib import Path

import faiss
import numpy as np
import psutil
from benchmarks.turns import Target, record

from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import ProcessExecutor
from lvd_curate.search.forest import find_falls, label_forest, span_forest
from lvd_curate.search.neighbours import find_pairs_within
from lvd_curate.search.pairs import Pairs, join_pairs
from lvd_curate.vectors import Vectors

DIM, CONCEPTS, COPIES, THRESHOLD, NEIGHBOURS = 512, 5000, 0.15, 0.6, 64
MAX_BYTES = 3 << 30  # what the join is told; the bar is 4 GB with the interpreters
CHECKED = 2000  # queries searched exactly
LONGEST, MOST_MEMORY, LEAST_RECALL, TIMES_FASTER = (
    180,
    4,
    0.95,
    20,
)  # seconds, GB, share of pairs; for a million vectors


def draw_units(draw: np.random.Generator, count: int) -> np.ndarray:
    """Draw directions, float32 [count, DIM]."""
    vectors = draw.standard_normal((count, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def draw_vectors(count: int, file: Path) -> None:
    """Write the vectors, float16 [count, DIM]: originals first, then their copies, in a random order of rows."""
    draw = np.random.default_rng(2026)
    centres = draw_units(draw, CONCEPTS)
    alike = draw.uniform(0.35, 0.45, CONCEPTS).astype(np.float32)
    weights = 1 / (np.arange(CONCEPTS) + 10) ** 0.9
    matrix = np.lib.format.open_memmap(file, "w+", np.float16, (count, DIM))
    places = draw.permutation(count)
    originals = count - round(count * COPIES)
    for start in range(0, count, 20_000):
        stop = min(count, start + 20_000)
        if start < originals:
            stop = min(stop, originals)
            concept = draw.choice(CONCEPTS, stop - start, p=weights / weights.sum())
            share = alike[concept, None]
            vectors = np.sqrt(share) * centres[concept] + np.sqrt(1 - share) * draw_units(draw, stop - start)
            matrix[places[start:stop]] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for start in range(originals, count, 20_000):
        stop = min(count, start + 20_000)
        source = matrix[places[draw.integers(0, originals, stop - start)]].astype(np.float32)
        noise = draw_units(draw, stop - start)
        noise -= (noise * source).sum(axis=1, keepdims=True) * source
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        cosine = draw.uniform(0.62, 0.98, (stop - start, 1)).astype(np.float32)
        matrix[places[start:stop]] = cosine * source + np.sqrt(1 - cosine**2) * noise
    matrix.flush()


class PeakMemory(threading.Thread):
    """The most memory that this process and its children hold together, looked at five times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.ended = 0, threading.Event()

    def run(self) -> None:
        """Look until ended."""
        process = psutil.Process()
        while not self.ended.wait(0.2):
            total = 0
            for each in [process, *process.children(recursive=True)]:
                try:
                    total += each.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak = max(self.peak, total)


def used_seconds() -> float:
    """Return the processor time of this process and its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def join(vectors: Vectors, folder: Path, workers: int) -> tuple[Pairs, np.ndarray]:
    """Return the pairs and the component of each vector."""
    found = []
    with ProcessExecutor(workers) as executor:
        for pairs in find_pairs_within(vectors, NEIGHBOURS, THRESHOLD, Workbench(folder, executor, MAX_BYTES)):
            found.append(pairs)
        links = ((np.stack([pairs.first, pairs.second], axis=1), pairs.similarity) for pairs in found)
        forest = span_forest(links, 1 << 22)
        find_falls(len(vectors), forest)  # as deduplication does, for the threshold curves
        labels = label_forest(len(vectors), forest)
    return join_pairs(found), labels


def count_false(pairs: Pairs, matrix: np.ndarray) -> int:
    """Return how many pairs do not lie above the threshold, in float64 from the stored values."""
    wrong = 0
    for start in range(0, len(pairs.first), 20_000):
        left, right = (matrix[rows[start : start + 20_000]].astype(np.float64) for rows in pairs[:2])
        cosine = (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
        wrong += int((cosine <= THRESHOLD).sum())
    return wrong


def measure_recall(pairs: Pairs, vectors: Vectors) -> tuple[float, int]:
    """Return the share found of the pairs of some queries, searched exactly in float32, and how many those are."""
    queries = np.random.default_rng(7).choice(len(vectors), min(CHECKED, len(vectors)), replace=False)
    mine = vectors[queries].load()
    true = []
    for start in range(0, len(vectors), 50_000):
        rows, columns = np.nonzero(mine @ vectors[start : start + 50_000].load().T > THRESHOLD + 1e-6)
        true.append(np.stack([queries[rows], columns + start], axis=1))
    exact = np.concatenate(true)
    exact = np.unique(np.sort(exact[exact[:, 0] != exact[:, 1]], axis=1), axis=0)
    keys = pairs.first * len(vectors) + pairs.second  # ordered, as the pairs are
    wanted = exact[:, 0] * len(vectors) + exact[:, 1]
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return float((keys[places] == wanted).mean()), len(wanted)


def time_brute_force(vectors: Vectors, workers: int) -> tuple[float, float]:
    """Return wall and processor seconds of faiss.knn, every vector against every other."""
    matrix = vectors.load()
    faiss.omp_set_num_threads(workers)
    wall, used = time.perf_counter(), used_seconds()
    faiss.knn(matrix, matrix, NEIGHBOURS, metric=faiss.METRIC_INNER_PRODUCT)
    return time.perf_counter() - wall, used_seconds() - used


def main() -> None:
    """Draw, join, check, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--brute", type=int, default=100_000, help="vectors of the faiss.knn run; 0: none")
    parser.add_argument("--folder", type=Path, default=None, help="for the vectors and the join's files")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("faiss").setLevel(logging.WARNING)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="million-join-"))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"vectors-{options.vectors}.npy"
    if not file.exists():
        draw_vectors(options.vectors, file)
    vectors = Vectors(file, np.arange(options.vectors))
    shutil.rmtree(folder / "join", ignore_errors=True)

    memory = PeakMemory()
    memory.start()
    wall, used = time.perf_counter(), used_seconds()
    pairs, labels = join(vectors, folder / "join", options.workers)
    wall, used = time.perf_counter() - wall, used_seconds() - used
    memory.ended.set()
    logging.info("joined in %.1f s, %.1f s of processor time", wall, used)

    recall, num_checked = measure_recall(pairs, vectors)
    figures = {
        "vectors": options.vectors,
        "workers": options.workers,
        "wall_s": round(wall, 1),
        "cpu_s": round(used, 1),
        "peak_rss_gb": round(memory.peak / 1e9, 2),
        "pairs": len(pairs.first),
        "false_pairs": count_false(pairs, vectors.open()),
        "recall": round(recall, 4),
        "recall_pairs": num_checked,
        "components": len(np.unique(labels)),
    }
    logging.info("recall %.4f of %d pairs", recall, num_checked)
    if options.brute:
        brute_wall, brute_used = time_brute_force(vectors[: options.brute], options.workers)
        scale = (options.vectors / min(options.brute, options.vectors)) ** 2
        figures |= {
            "brute_vectors": options.brute,
            "brute_wall_s": round(brute_wall, 1),
            "brute_cpu_s": round(brute_used, 1),
            "times_faster_wall": round(brute_wall * scale / wall, 1),
            "times_faster_cpu": round(brute_used * scale / used, 1),
        }
    for name, value in figures.items():
        print(f"{name:20} {value}")
    targets = [
        Target("seconds", figures["wall_s"], LONGEST, "at most"),
        Target("memory of all processes, GB", figures["peak_rss_gb"], MOST_MEMORY, "at most"),
        Target("recall", recall, LEAST_RECALL),
        Target("wrong pairs", figures["false_pairs"], 0, "at most"),
    ]
    if options.brute:
        targets.append(Target("times as fast as faiss.knn", figures["times_faster_wall"], TIMES_FASTER))
    record("curate/million_join", figures, targets, ("lvd-curate", "torch", "faiss-gpu", "numpy"))
    if options.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
