"""Finding near 128-bit hashes among many without comparing all: few cells are looked into, wherever a copy may lie.

The signs of the lowest frequencies name a hash's cell: they are the steadiest bits. A query knows the sums behind its
own bits, and those near zero are the ones that a copy has otherwise; so it also looks into the cells that differ in its
least sure bits. Two tables are named by different bits. Cells have the same size and a query looks into as many,
whatever N is: the search grows like N. Tables lie in files that processes map and so share.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np

from lvd_curate.copy_detection.hashing import HALF, pack_bits
from lvd_curate.engine.artifacts import write_array

BITS = 128
CELL = 256  # hashes in a cell, about: enough that a call of faiss, some 10 us, pays
PROBES = 64  # cells per table that a query looks into
TABLES = 2  # against 1: bits that a caption or frame turns round are in one of them only
FANOUT = 32  # nearest matches kept per query, and equal hashes per table: pages of identical pictures cost no square
COMPARED = 1 << 22  # hashes with hashes at once: even if all are near, 50 MB
ENTRY = np.dtype([("hash", "u1", (BITS // 8,)), ("row", "<i8")])


class Matches(NamedTuple):
    """Near hashes, row by row."""

    queries: np.ndarray  # int64 [P]
    matches: np.ndarray  # int64 [P]
    distances: np.ndarray  # int64 [P], bits


class Table(NamedTuple):
    """Hashes in the order of their cells; a cell's number is spelt by some bits, the first worth 1."""

    bits: np.ndarray  # int64 [B], places of 128
    starts: np.ndarray  # int64 [2^B + 1], first entry of each cell
    entries: np.ndarray  # ENTRY [N]


def write_index(hashes: np.ndarray, folder: Path) -> None:
    """Write the tables of hashes uint8 [N, 16], 24 bytes of disk each and table; what is there already stays.

    Of hashes that are equal only the first FANOUT are in it.
    """
    rows = keep_first(hashes)
    for number, bits in enumerate(choose_bits(len(rows))):
        entries_file, starts_file = name_files(folder, number)
        if starts_file.exists():
            continue
        cells = np.zeros(len(rows), dtype=np.int64)
        for place, bit in enumerate(bits.tolist()):
            cells |= ((hashes[rows, bit // 8] >> (bit % 8)) & 1).astype(np.int64) << place
        ordered = rows[np.argsort(cells, kind="stable")]
        entries = np.empty(len(ordered), dtype=ENTRY)
        entries["hash"], entries["row"] = hashes[ordered], ordered
        write_array(entries, entries_file)
        write_array(np.cumsum(np.bincount(cells + 1, minlength=2 ** len(bits) + 1)), starts_file)


def open_index(folder: Path) -> list[Table]:
    """Map the tables that `write_index` left in a folder."""
    tables = []
    for number in range(TABLES):
        entries, starts = (file for file in name_files(folder, number))
        if starts.exists():
            first = np.load(starts)
            bits = key_bits(number, (len(first) - 1).bit_length() - 1)
            tables.append(Table(bits, first, np.load(entries, mmap_mode="r")))
    return tables


def name_files(folder: Path, number: int) -> tuple[Path, Path]:
    """Return where the entries of a table are and where the starts of its cells."""
    return folder / f"table-{number}-entries.npy", folder / f"table-{number}-starts.npy"


def keep_first(hashes: np.ndarray) -> np.ndarray:
    """Return the rows of hashes [N, 16], rising, that have fewer than FANOUT equal ones before them."""
    halves = np.ascontiguousarray(hashes).view("<u8")
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    new = (np.diff(halves[order], axis=0, prepend=~halves[order[:1]]) != 0).any(axis=1)
    return np.sort(order[count_since(new) < FANOUT])


def count_since(new: np.ndarray) -> np.ndarray:
    """Return how many places each place lies behind the last one that is true, int64 [N]; the first must be."""
    starts = np.flatnonzero(new)
    return np.arange(len(new)) - np.repeat(starts, np.diff(starts, append=len(new)))


def choose_bits(count: int) -> list[np.ndarray]:
    """Return the bits that name the cells of each table: none, of one table, where comparing all costs no more."""
    width = max(0, round(np.log2(max(1, count) / CELL)))
    if count <= TABLES * PROBES * CELL:
        return [key_bits(0, 0)]
    return [key_bits(number, width) for number in range(TABLES)]


def key_bits(number: int, width: int) -> np.ndarray:
    """Return the so-many-th run of `width` lowest frequencies, int64 [width]."""
    return HALF + number * width + np.arange(width)


def search_index(tables: list[Table], sums: np.ndarray, radius: int) -> Matches:
    """Return the FANOUT nearest hashes at most `radius` bits away that were found for each query.

    Queries are the sums [Q, 128] of which hashes are the signs (`hashing.sum_views`).
    """
    hashes = pack_bits(sums > 0)
    found = [Matches(*(np.empty(0, dtype=np.int64) for _ in range(3)))]
    for table in tables:
        cells, queries = probe(table.bits, sums)
        edges = np.append(np.flatnonzero(np.diff(cells, prepend=-1)), len(cells))
        for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            entries = table.entries[slice(*table.starts[cells[start] : cells[start] + 2])]
            step = max(1, COMPARED // max(1, len(entries)))
            blocks = (queries[lower : min(lower + step, stop)] for lower in range(start, stop, step))
            found += [compare_all(hashes, block, entries, radius) for block in blocks if len(entries)]
    return keep_nearest(Matches(*map(np.concatenate, zip(*found, strict=True))))


def probe(bits: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (cell, query), int64 each, for every cell that a query looks into, ordered by both."""
    values = sums[:, bits]
    flips = order_flips(len(bits))  # [P, B]
    own = (values > 0) @ (1 << np.arange(len(bits)))
    unsure = 1 << np.argsort(np.abs(values), axis=1, kind="stable")  # [Q, B]
    cells = own[:, None] ^ (unsure @ flips.T)  # no bit comes twice, so adding them is or
    pairs = np.sort(((cells << 32) | np.arange(len(sums))[:, None]).ravel())
    return pairs >> 32, pairs & 0xFFFFFFFF


def order_flips(width: int) -> np.ndarray:
    """Return the PROBES sets of bits likeliest to be otherwise, int64 [P, width]; the least sure bit is the first.

    Likely is what has a small sum of ranks, as margins grow about evenly (query-directed probing, Lv et al. 2007).
    """
    known = min(width, PROBES.bit_length() + 3)  # a bit of higher rank is in none of the first PROBES sets
    sets = (np.arange(1 << known)[:, None] >> np.arange(known)) & 1
    order = np.lexsort((sets.sum(axis=1), sets @ np.arange(1, known + 1)))[:PROBES]
    return np.pad(sets[order], ((0, 0), (0, width - known)))


def compare_all(hashes: np.ndarray, queries: np.ndarray, entries: np.ndarray, radius: int) -> Matches:
    """Compare some of the hashes [Q, 16] with all entries."""
    index = faiss.IndexBinaryFlat(BITS)
    index.add(np.ascontiguousarray(entries["hash"]))
    limits, distances, places = index.range_search(hashes[queries], radius + 1)  # strictly below
    counts = np.diff(limits.astype(np.int64))
    found = Matches(np.repeat(queries, counts), entries["row"][places], distances.astype(np.int64))
    return keep_nearest(found) if counts.max(initial=0) > FANOUT else found


def keep_nearest(found: Matches) -> Matches:
    """Return each pair once, and of each query no more than the FANOUT nearest, the lowest rows first among equals."""
    order = np.lexsort((found.matches, found.distances, found.queries))
    queries, matches, distances = (values[order] for values in found)
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(queries) != 0) | (np.diff(matches) != 0)
    queries, matches, distances = queries[new], matches[new], distances[new]
    near = count_since(np.diff(queries, prepend=-1) != 0) < FANOUT
    return Matches(queries[near], matches[near], distances[near])


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep faiss to one thread: processes do not crowd one another."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
