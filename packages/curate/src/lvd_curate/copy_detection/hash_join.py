"""Copies by perceptual hash: near hashes of any view propose a pair, and the aligned thumbnails confirm it.

The queries' thumbnails are looked at through every view (`views`); hashes near a whole thumbnail's propose. Work is cut
into pieces of rows that leave a file each, so that a killed join goes on, and no process holds more than one piece.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lvd_curate.copy_detection.alignment import compare
from lvd_curate.copy_detection.hash_index import Matches, Table, one_thread, open_index, search_index, write_index
from lvd_curate.copy_detection.hashing import sum_views
from lvd_curate.copy_detection.views import MIRROR, VIEWS
from lvd_curate.engine.artifacts import Workbench, write_whole
from lvd_curate.search.pairs import Pairs, read_pairs, unify, write_pairs

PIECE = 8192  # queries
VIEWS_AT_ONCE = 3  # searched together, so that many queries meet in a cell: some 250 MB
CLOSER = 0.005  # likeness that one bit fewer between two hashes is worth


@dataclass(frozen=True)
class Hashed:
    """Images with a hash: where their thumbnails are and what they are called."""

    thumbnails: Path  # .npy uint8 [M, 1024]
    rows: np.ndarray  # int64 [N], of the thumbnails
    positions: np.ndarray  # int64 [N], in the table that the pairs speak of
    hashes: np.ndarray  # uint8 [N, 16]


def find_hashed_pairs(
    queries: Hashed, database: Hashed | None, distance: int, likeness: float, bench: Workbench
) -> Iterator[Pairs]:
    """Yield pairs (position of a query, position of its copy) and their scores; without a database among the queries.

    Hashes of a copy differ by at most `distance` bits of 128. The score is the likeness of the thumbnails, plus 0.005
    for each bit that the hashes are closer than that: at least `likeness`, at most 1. A pair comes once per piece.
    """
    within = database is None
    database = queries if database is None else database
    if not len(queries.rows) or not len(database.rows):
        return
    folder = prepare(queries, database, bench.folder)
    find = partial(find_piece, folder, (queries.thumbnails, database.thumbnails), (distance, likeness), within)
    starts = range(0, len(queries.rows), PIECE)
    for file in bench.executor.map(find, [(start, min(start + PIECE, len(queries.rows))) for start in starts]):
        yield read_pairs(file)


def prepare(queries: Hashed, database: Hashed, folder: Path) -> Path:
    """Write what every piece of the join needs into a folder named by it."""
    digest = hashlib.sha256()
    for side in (queries, database):
        digest.update(side.thumbnails.parent.name.encode())
        for array in (side.rows, side.positions, side.hashes):
            digest.update(np.ascontiguousarray(array))
    folder = folder / f"hashes-{digest.hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, side in (("queries", queries), ("database", database)):
        if not (file := folder / f"{name}.npy").exists():
            with write_whole(file) as stream:
                np.save(stream, np.stack([side.rows, side.positions]))
    write_index(database.hashes, folder)
    return folder


def find_piece(
    folder: Path, thumbnails: tuple[Path, Path], bars: tuple[int, float], within: bool, bounds: tuple[int, int]
) -> Path:
    """Write the pairs of some queries unless they are there; return their file."""
    distance, likeness = bars
    file = folder / f"pairs-{distance}-{likeness}-{bounds[0]:012d}.npy"
    if file.exists():
        return file
    (rows, positions), (other_rows, other_positions) = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("queries", "database")
    )
    rows, positions = rows[slice(*bounds)], positions[slice(*bounds)]
    mine, theirs = (np.load(path, mmap_mode="r") for path in thumbnails)
    with one_thread():
        proposed, views = propose(mine[rows], open_index(folder), distance)
    keep = (positions[proposed.queries] != other_positions[proposed.matches]) | (not within)
    proposed, views = Matches(*(values[keep] for values in proposed)), views[keep]
    likenesses = [np.empty(0, dtype=np.float32)]
    for start in range(0, len(views), PIECE):
        block = slice(start, start + PIECE)
        left, right = mine[rows[proposed.queries[block]]], theirs[other_rows[proposed.matches[block]]]
        likenesses.append(compare(left, right, views[block]))
    scores = np.concatenate(likenesses) + CLOSER * (distance - proposed.distances)
    scores = np.minimum(scores, 1).astype(np.float32)
    alike = scores >= np.float32(likeness)
    first, second = positions[proposed.queries[alike]], other_positions[proposed.matches[alike]]
    write_pairs(unify(Pairs(first, second, scores[alike]), undirected=within), file)
    return file


def propose(thumbnails: np.ndarray, tables: list[Table], radius: int) -> tuple[Matches, np.ndarray]:
    """Return each near pair once, where it is nearest, and the view [P, 2, 3] through which it is.

    Thumbnails are uint8 [Q, 1024].
    """
    count, found = len(thumbnails), []
    for start in range(0, len(VIEWS), VIEWS_AT_ONCE):
        numbers = range(start, min(start + VIEWS_AT_ONCE, len(VIEWS)))
        sums = np.concatenate([part for number in numbers for part in sum_views(thumbnails, number)])
        near = search_index(tables, sums, radius)
        found.append(near._replace(queries=near.queries + 2 * start * count))
    seen, matches, distances = map(np.concatenate, zip(*found, strict=True))
    through, queries = np.divmod(seen, count)  # 2 * view, + 1 when mirrored
    order = np.lexsort((through, distances, matches, queries))
    nearest = np.ones(len(order), dtype=bool)
    nearest[1:] = (np.diff(queries[order]) != 0) | (np.diff(matches[order]) != 0)
    order = order[nearest]
    views = np.stack([VIEWS, VIEWS * MIRROR], axis=1).reshape(-1, 2, 3)
    return Matches(queries[order], matches[order], distances[order]), views[through[order]]
