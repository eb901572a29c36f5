"""Which images lie near one another: among perceptual hashes and among embeddings (faiss)."""

import faiss
import numpy as np

BANDS, BAND_BITS, BAND_FLIPS = 4, 16, 2  # two hashes at most 11 bits apart differ by at most 2 bits in one of 4 bands
QUERIES = 8192  # queries per search: bounds what one search may return
FANOUT = 64  # nearest matches kept per query: keeps pages of identical pictures from costing their square


def find_hash_pairs(queries: np.ndarray, database: np.ndarray, radius: int) -> np.ndarray:
    """Return index pairs (query, match) at most `radius` (<= 11) bits apart, int64 [P, 2]; inputs uint64 [N].

    Exact up to FANOUT matches per query: the nearest win, then the lowest index.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    if len(queries) and len(database):
        index = faiss.IndexBinaryMultiHash(64, BANDS, BAND_BITS)
        index.nflip = BAND_FLIPS
        index.add(as_bytes(database))
        for start in range(0, len(queries), QUERIES):
            limits, distances, matches = index.range_search(as_bytes(queries[start : start + QUERIES]), radius + 1)
            limits = limits.astype(np.int64)
            rows = np.repeat(np.arange(len(limits) - 1), np.diff(limits))
            order = np.lexsort((matches, distances, rows))
            order = order[np.arange(len(order)) - limits[rows[order]] < FANOUT]
            found.append(np.stack([rows[order] + start, matches[order]], axis=1))
    return np.concatenate(found)


def as_bytes(hashes: np.ndarray) -> np.ndarray:
    """View uint64 [N] as the uint8 [N, 8] that faiss wants."""
    return np.ascontiguousarray(hashes, dtype="<u8").view(np.uint8).reshape(-1, 8)


def to_matrix(embeddings: list[bytes]) -> np.ndarray:
    """Return stored float16 vectors as float32 [N, D], of exactly unit length again."""
    if not embeddings:
        return np.empty((0, 0), dtype=np.float32)
    vectors = np.frombuffer(b"".join(embeddings), dtype="<f2").astype(np.float32).reshape(len(embeddings), -1)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def find_nearest(queries: np.ndarray, database: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return similarities float32 and indices int64, both [Q, min(count, N)], of the nearest by cosine, best first."""
    count = min(count, len(database))
    if not len(queries) or not count:
        shape = (len(queries), count)
        return np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.int64)
    return faiss.knn(queries, database, count, metric=faiss.METRIC_INNER_PRODUCT)


def find_similar_pairs(
    queries: np.ndarray, database: np.ndarray, count: int, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs (query, match) [P, 2] among the `count` nearest with a cosine above `threshold`, and cosines [P]."""
    similarities, matches = find_nearest(queries, database, count)
    rows, columns = np.nonzero(similarities > threshold)
    return np.stack([rows, matches[rows, columns]], axis=1), similarities[rows, columns]
