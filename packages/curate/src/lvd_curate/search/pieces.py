"""What a search looks for and into how many pieces it is cut: plain numbers, known before any work."""

import math
from typing import NamedTuple

from lvd_curate.engine.artifacts import Workbench

MOST_ROWS = 65536  # vectors of a piece of work
FEW_COMPARISONS = 50_000**2  # up to here an exact search takes at most half a minute of one core at D = 512


class Search(NamedTuple):
    """What is looked for."""

    neighbours: int  # per query, at most
    threshold: float  # their cosine, above; -1 or less: whatever it is
    within: bool  # the queries are the database: no vector matches itself, a pair has no direction


def share_memory(bench: Workbench) -> int:
    """Return how many bytes one process may take."""
    return bench.max_bytes // int(getattr(bench.executor, "workers", 1))


def count_rows(dim: int, bench: Workbench) -> int:
    """Return how many vectors one piece of work may hold: a power of two, 65536 unless memory is short.

    A piece takes up to 16 bytes per number: stored, prepared, its results, and what is compared with it.
    """
    return min(MOST_ROWS, 1 << max(10, (share_memory(bench) // (16 * max(1, dim))).bit_length() - 1))


def count_cells(num_vectors: int) -> int:
    """Return 2 sqrt(N), half the usual: training costs its square, and larger cells make larger, faster products."""
    return max(1, min(num_vectors, round(2 * math.sqrt(num_vectors))))


def is_small(num_queries: int, num_vectors: int) -> bool:
    """Tell whether comparing everything costs no more than sorting everything into cells."""
    sorting = (num_queries + num_vectors) * count_cells(num_vectors)
    return num_queries * num_vectors <= max(FEW_COMPARISONS, sorting)
