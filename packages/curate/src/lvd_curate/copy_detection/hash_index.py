"""Finding near 128-bit hashes among many without comparing all (faiss's binary inverted file)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import faiss
import numpy as np

BITS = 128
EXACT = 20_000  # hashes up to which comparing all is quicker than cells
# Cells looked into, of 2 sqrt(N), whatever N is. In a trial among 73,000 photographs this found 95 % of the pairs 20
# bits apart; no benchmark repeats it, and more cells mean that fewer are found.
PROBES = 64
FANOUT = 32  # nearest matches kept per query: keeps pages of identical pictures from costing their square
ROUNDS = 6  # of k-means for the cells' centres
SAMPLE = 64  # hashes per cell that it sees


class Matches(NamedTuple):
    """Near hashes, row by row."""

    queries: np.ndarray  # int64 [P]
    matches: np.ndarray  # int64 [P]
    distances: np.ndarray  # int64 [P], bits


def build_index(hashes: np.ndarray) -> faiss.IndexBinary:
    """Index hashes uint8 [N, 16]: 24 bytes of memory each. The same hashes give the same index."""
    index: Any = faiss.IndexBinaryFlat(BITS)
    if len(hashes) > EXACT:
        index = faiss.IndexBinaryIVF(index, BITS, round(2 * len(hashes) ** 0.5))
        index.cp.niter, index.cp.max_points_per_centroid, index.nprobe = ROUNDS, SAMPLE, PROBES
        with one_thread():
            index.train(hashes)
    index.add(hashes)
    return index


def search_index(index: faiss.IndexBinary, hashes: np.ndarray, radius: int) -> Matches:
    """Return the FANOUT nearest of each hash uint8 [Q, 16] that are at most `radius` bits away."""
    distances, found = index.search(hashes, min(FANOUT, index.ntotal))
    rows, places = np.nonzero((found >= 0) & (distances <= radius))
    return Matches(rows, found[rows, places], distances[rows, places].astype(np.int64))


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep faiss to one thread: sums do not depend on the machine, and processes do not crowd one another."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
