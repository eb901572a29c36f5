"""The exact search: every query against every vector, in pieces of work that leave whole files."""

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lvd_curate.engine.artifacts import Workbench
from lvd_curate.search.matching import Shortlist, read_stored
from lvd_curate.search.pairs import join_pairs, keep_best, read_pairs, unify, write_pairs
from lvd_curate.search.pieces import Search, count_rows
from lvd_curate.vectors import Vectors

QUERIES = 16384  # of a piece of work, at most
BLOCK = 8192  # vectors compared with a query at once


class Piece(NamedTuple):
    """Some queries to compare with some vectors."""

    queries: Vectors
    query_ids: np.ndarray  # int64
    database: Vectors
    start: int  # id of the first vector
    file: Path


def search_exactly(
    queries: Vectors, query_ids: np.ndarray, database: Vectors, search: Search, bench: Workbench
) -> list[Path]:
    """Return files of pairs (`write_pairs`, unified), one for every block of queries.

    Pairs hold a query's id and a position in the database. A query that is in the database has its position as id.
    """
    bench.folder.mkdir(parents=True, exist_ok=True)
    grid = cut_grid(queries, query_ids, database, count_rows(database.dim, bench), bench.folder)
    todo = {file: pieces for file, pieces in grid.items() if not file.exists()}
    block_of = {piece.file: file for file, pieces in todo.items() for piece in pieces}
    done = defaultdict[Path, list[Path]](list)
    work = [piece for pieces in todo.values() for piece in pieces]
    for found in bench.executor.map(partial(search_piece, search), work):  # leaves out what failed, and says so last
        file = block_of[found]
        done[file].append(found)
        if len(done[file]) == len(todo[file]):
            merge_pieces(done.pop(file), search, file)
    return list(grid)


def merge_pieces(pieces: list[Path], search: Search, file: Path) -> None:
    """Leave the nearest of each query of a block in its file, and nothing of its pieces."""
    best = keep_best(join_pairs([read_pairs(piece) for piece in pieces]), search.neighbours)
    write_pairs(unify(best, undirected=search.within), file)
    for piece in pieces:
        piece.unlink()


def cut_grid(
    queries: Vectors, query_ids: np.ndarray, database: Vectors, rows: int, folder: Path
) -> dict[Path, list[Piece]]:
    """Return the file of each block of queries and its pieces of work, one for every block of the database."""
    step = min(QUERIES, rows)
    return {
        folder / f"pairs-{start:012d}.npy": [
            Piece(
                queries[start : start + step],
                query_ids[start : start + step],
                database[lower : lower + rows],
                lower,
                folder / f"piece-{start:012d}-{lower:012d}.npy",
            )
            for lower in range(0, len(database), rows)
        ]
        for start in range(0, len(queries), step)
    }


def search_piece(search: Search, piece: Piece) -> Path:
    """Leave the nearest of each query among the piece's vectors in its file, unless it is there; return the file."""
    if piece.file.exists():
        return piece.file
    stored, usable = read_stored(piece.queries)
    shortlist = Shortlist(stored, piece.query_ids[usable], search.neighbours, search.threshold, skip_self=search.within)
    database, positions = read_stored(piece.database)
    everyone = np.arange(len(stored))
    for start in range(0, len(database), BLOCK):
        ids = positions[start : start + BLOCK] + piece.start
        shortlist.compare(everyone, database[start : start + BLOCK], ids)
    write_pairs(shortlist.finish(), piece.file)
    return piece.file
