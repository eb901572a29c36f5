"""Which images lie near one another: among perceptual hashes (faiss) and among embeddings.

`find_pairs_within` and `find_pairs_between` are the doors that stages use. Behind them stand an exact search (`exact`)
and one by cells (`ivf`), loaded when they are needed because they bring torch.
"""

import hashlib
from collections.abc import Iterator

import faiss
import numpy as np

from lvd_curate.engine.artifacts import Workbench
from lvd_curate.search.pairs import Pairs, merge_files
from lvd_curate.search.pieces import Search, count_rows, is_small
from lvd_curate.vectors import Vectors

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


def find_pairs_within(
    vectors: Vectors, count: int, threshold: float, bench: Workbench, *, random_seed: int = 0
) -> Iterator[Pairs]:
    """Yield the pairs among `vectors` of which either is one of the `count` nearest of the other.

    Their cosine lies strictly above `threshold`; -1 asks for the nearest whatever they are. Each pair comes once, the
    lower position first, in order. Up to a few billion comparisons the search is exact; larger ones find at least 95 %
    of the pairs of a measured sample (`ivf`). The bench's folder keeps finished pieces: a killed search goes on there.
    """
    yield from find_pairs(vectors, vectors, Search(count, threshold, within=True), bench, random_seed)


def find_pairs_between(
    queries: Vectors, database: Vectors, count: int, threshold: float, bench: Workbench, *, random_seed: int = 0
) -> Iterator[Pairs]:
    """Yield (query, match) positions for the `count` nearest of each query in `database`, as `find_pairs_within` does.

    With threshold -1 every query gets `count` matches while the database has them.
    """
    yield from find_pairs(queries, database, Search(count, threshold, within=False), bench, random_seed)


def find_pairs(
    queries: Vectors, database: Vectors, search: Search, bench: Workbench, random_seed: int
) -> Iterator[Pairs]:
    """Search, exactly where that costs less, and yield what was found in the order of its positions."""
    if not len(queries) or not len(database) or not search.neighbours:
        return
    bench = bench._replace(folder=bench.folder / name_search(queries, database, search, bench, random_seed))
    if is_small(len(queries), len(database)):
        from lvd_curate.search.exact import search_exactly

        files = search_exactly(queries, np.arange(len(queries)), database, search, bench)
    else:
        from lvd_curate.search.ivf import search_cells

        files = search_cells(queries, database, search, bench, random_seed)
    yield from merge_files(files, len(queries))


def name_search(queries: Vectors, database: Vectors, search: Search, bench: Workbench, random_seed: int) -> str:
    """Name a search by all that its files depend on, so that none is taken for another's."""
    digest = hashlib.sha256(repr((search, random_seed, count_rows(database.dim, bench))).encode())
    for vectors in (queries, database):
        digest.update(f"{vectors.file.parent.name}/{vectors.file.name}/{len(vectors)}".encode())
        digest.update(np.ascontiguousarray(vectors.rows, dtype="<i8"))
    return f"join-{digest.hexdigest()[:16]}"
