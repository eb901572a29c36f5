"""Which vectors lie near one another.

`find_pairs_within` and `find_pairs_between` are the doors that stages use. Behind them stand an exact search (`exact`)
and one by cells (`ivf`), loaded when they are needed because they bring torch.
"""

import hashlib
from collections.abc import Iterator

import numpy as np

from lvd_curate.engine.artifacts import Workbench
from lvd_curate.search.pairs import Pairs, merge_files
from lvd_curate.search.pieces import Search, count_rows, is_small
from lvd_curate.vectors import Vectors


def find_pairs_within(
    vectors: Vectors, count: int, threshold: float, bench: Workbench, *, random_seed: int = 0
) -> Iterator[Pairs]:
    """Yield the pairs among `vectors` of which either is one of the `count` nearest of the other.

    Their cosine lies strictly above `threshold`; -1 asks for the nearest whatever they are. Each pair comes once, the
    lower position first, in order. Up to a few billion comparisons the search is exact; larger ones find at least 95 %
    of the pairs of a sample, where that holds enough of them to measure it (`ivf`). The bench's folder keeps finished
    pieces: a killed search goes on there.
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
