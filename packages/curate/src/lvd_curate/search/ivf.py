"""The search that reads a few cells for each query instead of everything (an inverted file with exact scoring).

DINOv2 (arXiv 2304.07193, s. 3) searched with product quantization, whose distances are off by more than its thresholds
allow. Here vectors stay whole, on disk in cell order, and only which cells a query visits is approximate: their number
is chosen so that a sample, searched exactly, loses no more than one pair in twenty.
"""

import json
import logging
import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lvd_curate.engine.artifacts import Workbench, write_whole
from lvd_curate.search.cells import Layout, fit_centroids, lay_out, load_centroids
from lvd_curate.search.exact import BLOCK, search_exactly
from lvd_curate.search.matching import TILE, Shortlist, prepare, rank_cells, read_stored
from lvd_curate.search.pairs import Pairs, join_pairs, read_pairs, unify, write_pairs
from lvd_curate.search.pieces import Search, count_rows
from lvd_curate.vectors import Vectors

PROBES = (4, 8, 16, 32, 64)  # cells that a query may visit
WANTED_RECALL = 0.95  # of pairs
SAMPLE = 2048  # queries searched exactly to measure it
FEWEST_PAIRS = 50  # of the sample, below which a recall says nothing
DEFAULT_PROBES = 16  # then

logger = logging.getLogger(__name__)


class Unit(NamedTuple):
    """A range of the queries' layout to search for."""

    queries: Layout
    database: Layout
    centroids: Path
    rows: range
    file: Path


def search_cells(queries: Vectors, database: Vectors, search: Search, bench: Workbench, random_seed: int) -> list[Path]:
    """Return files of pairs (`write_pairs`, unified); pairs hold positions of a query and of its match."""
    bench.folder.mkdir(parents=True, exist_ok=True)
    finished = bench.folder / "finished.json"
    if not finished.exists():
        files = search_in_steps(queries, database, search, bench, random_seed)
        with write_whole(finished) as stream:
            stream.write(json.dumps([str(file.relative_to(bench.folder)) for file in files]).encode())
    for name in ("sample", "queries", "database"):
        shutil.rmtree(bench.folder / name, ignore_errors=True)
    return [bench.folder / name for name in json.loads(finished.read_text())]


def search_in_steps(
    queries: Vectors, database: Vectors, search: Search, bench: Workbench, random_seed: int
) -> list[Path]:
    """Train, choose the number of probes, lay out, search."""
    centroids = fit_centroids(database, bench, random_seed)
    probes = choose_probes(queries, database, centroids, search, bench, random_seed)
    if probes is None:
        return search_exactly(queries, np.arange(len(queries)), database, search, step_into(bench, "exact"))
    if search.within:
        layout = seekers = lay_out(database, centroids, probes, step_into(bench, "database"))
    else:
        layout = lay_out(database, centroids, 1, step_into(bench, "database"))
        seekers = lay_out(queries, centroids, probes, step_into(bench, "queries"))
    return search_layout(seekers, layout, centroids, search, bench, count_rows(database.dim, bench))


def step_into(bench: Workbench, name: str) -> Workbench:
    """Return the bench with a folder of its own for one step."""
    return bench._replace(folder=bench.folder / name)


def choose_probes(
    queries: Vectors, database: Vectors, centroids: Path, search: Search, bench: Workbench, random_seed: int
) -> int | None:
    """Return the fewest probes that find enough of a sample's pairs, None when even the most do not.

    The sample's recall must exceed the wanted one by 1.64 of its standard errors, so that the choice holds outside it.
    """
    file = bench.folder / "probes.json"
    if not file.exists():
        draw = np.random.default_rng([random_seed, 1])  # not the training sample: k-means knows that by heart
        sample = np.unique(draw.integers(0, len(queries), SAMPLE))
        files = search_exactly(queries[sample], sample, database, search, step_into(bench, "sample"))
        found = join_pairs([read_pairs(part) for part in files])
        ranks = rank_homes(found, queries, database, centroids, search.within)
        recalls = [float((ranks < probes).mean()) if len(ranks) else 0.0 for probes in PROBES]
        with write_whole(file) as stream:
            stream.write(json.dumps({"pairs": len(ranks), "recalls": recalls}).encode())
    measured = json.loads(file.read_text())
    pairs, recalls = measured["pairs"], measured["recalls"]
    if pairs < FEWEST_PAIRS:
        logger.info(
            "join: %d vectors, %d probes; %d pairs in the sample, too few to measure recall",
            len(database),
            DEFAULT_PROBES,
            pairs,
        )
        return DEFAULT_PROBES
    for probes, recall in zip(PROBES, recalls, strict=True):
        if recall - 1.64 * (recall * (1 - recall) / pairs) ** 0.5 >= WANTED_RECALL:
            num_cells = len(np.load(centroids, mmap_mode="r"))
            logger.info(
                "join: %d vectors, %d cells, %d probes, sampled recall %.3f", len(database), num_cells, probes, recall
            )
            return probes
    logger.warning("join: %d probes find only %.3f of a sample's pairs: searching everything", PROBES[-1], recalls[-1])
    return None


def rank_homes(pairs: Pairs, queries: Vectors, database: Vectors, centroids: Path, undirected: bool) -> np.ndarray:
    """Return how many cells lie nearer to the query of each pair than the one its match lives in; int64 [P].

    An undirected pair may as well be found from its other end: the lower number counts.
    """
    cells = load_centroids(centroids)
    most = min(PROBES[-1], len(cells))
    first = read_ranked(queries, pairs.first, cells, most)
    second = read_ranked(database, pairs.second, cells, most)
    ranks = find_rank(first, second[:, 0])
    return np.minimum(ranks, find_rank(second, first[:, 0])) if undirected else ranks


def read_ranked(vectors: Vectors, positions: np.ndarray, cells: torch.Tensor, count: int) -> np.ndarray:
    """Return the `count` nearest cells of the vectors at these positions, int32 [P, count]."""
    wanted, places = np.unique(positions, return_inverse=True)
    ranked = [np.empty((0, count), dtype=np.int32)]
    for start in range(0, len(wanted), BLOCK):
        stored, _ = read_stored(vectors[wanted[start : start + BLOCK]])
        ranked.append(rank_cells(prepare(stored), cells, count))
    return np.concatenate(ranked)[places]


def find_rank(ranked: np.ndarray, homes: np.ndarray) -> np.ndarray:
    """Return where each home [P] stands in its row of ranked cells [P, R]; beyond every number of probes if nowhere."""
    same = ranked == homes[:, None]
    return np.where(same.any(axis=1), same.argmax(axis=1), PROBES[-1])


def search_layout(
    queries: Layout, database: Layout, centroids: Path, search: Search, bench: Workbench, rows: int
) -> list[Path]:
    """Search for the queries unit by unit, in the order of their cells: the queries of a unit visit the same cells."""
    units = [
        Unit(
            queries,
            database,
            centroids,
            range(start, min(start + rows, len(queries))),
            bench.folder / f"pairs-{start:012d}.npy",
        )
        for start in range(0, len(queries), rows)
    ]
    for _ in bench.executor.map(partial(search_unit, search), units):
        pass
    return [unit.file for unit in units]


def search_unit(search: Search, unit: Unit) -> None:
    """Leave a unit's pairs in its file, unless it is there. Each cell is read once, for all queries that visit it."""
    if unit.file.exists():
        return
    stored = unit.queries.read(unit.rows.start, unit.rows.stop)
    index = unit.queries.read_index(unit.rows.start, unit.rows.stop)
    shortlist = Shortlist(stored, index["row"], search.neighbours, search.threshold, skip_self=search.within)
    visits = list_visits(index["probes"])
    if search.threshold <= -1:
        more = list_more_visits(stored, index["probes"], search.neighbours + search.within, unit)
        visits = np.concatenate([visits, more])
    visits = visits[np.argsort(visits[:, 1], kind="stable")]
    cells, starts = np.unique(visits[:, 1], return_index=True)
    for cell, visitors in zip(cells.tolist(), np.split(visits[:, 0], starts[1:]), strict=True):
        start, stop = unit.database.offsets[cell : cell + 2].tolist()
        for lower in range(start, stop, BLOCK):
            upper = min(stop, lower + BLOCK)
            ids = unit.database.read_index(lower, upper)["row"]
            shortlist.compare(visitors, unit.database.read(lower, upper), ids)
    write_pairs(unify(shortlist.finish(), undirected=search.within), unit.file)


def list_visits(probes: np.ndarray) -> np.ndarray:
    """Return (query, cell) of every probe [Q, P]; int64 [Q * P, 2]."""
    rows = np.repeat(np.arange(len(probes)), probes.shape[1])
    return np.stack([rows, probes.ravel().astype(np.int64)], axis=1)


def list_more_visits(stored: np.ndarray, probes: np.ndarray, wanted: int, unit: Unit) -> np.ndarray:
    """Return visits to further cells, the nearest first, for queries whose probes hold fewer vectors than `wanted`."""
    sizes = np.diff(unit.database.offsets)
    short = np.flatnonzero(sizes[probes].sum(axis=1) < min(wanted, len(unit.database)))
    visits = [np.empty((0, 2), dtype=np.int64)]
    step = max(1, TILE // len(sizes))
    for start in range(0, len(short), step):
        rows = short[start : start + step]
        ranked = rank_cells(prepare(stored[rows]), load_centroids(unit.centroids), len(sizes))  # [S, C]
        seen = np.zeros(ranked.shape, dtype=bool)
        np.put_along_axis(seen, probes[rows], True, axis=1)
        fresh = ~np.take_along_axis(seen, ranked, axis=1)
        held = np.where(fresh, sizes[ranked], 0)
        before = np.cumsum(held, axis=1) - held + sizes[probes[rows]].sum(axis=1, keepdims=True)
        which, columns = np.nonzero(fresh & (before < wanted))
        visits.append(np.stack([rows[which], ranked[which, columns].astype(np.int64)], axis=1))
    return np.concatenate(visits)
