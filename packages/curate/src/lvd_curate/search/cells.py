"""Vectors laid out by cell: near vectors stand together on disk, so that a search reads a few cells and not everything.

Four steps, each leaving whole files: centroids from a sample; every block of rows assigned and sorted by cell (a run);
the place of each row counted out; the runs merged into blocks in cell order. Reading and writing are sequential, and
no process ever holds more than one piece.
"""

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
import torch

from lvd_curate.engine.artifacts import Workbench, write_array
from lvd_curate.search.matching import choose_first_look, prepare, rank_cells, read_stored
from lvd_curate.search.pieces import count_cells, count_rows
from lvd_curate.vectors import Vectors

POINTS_PER_CELL, ITERATIONS = 40, 8  # of k-means; it need not be the best: the probes are chosen by what they find
MERGES = 1024  # blocks into which a run is cut, so that what is read of it at once stays some tens of kilobytes
MOST_PIECES = 4  # of work in a block, which then takes half of a process's share of memory


def fit_centroids(vectors: Vectors, bench: Workbench, random_seed: int) -> Path:
    """Return the file of unit centroids, float32 [C, D], numbered so that near cells have near numbers."""
    file = bench.folder / "centroids.npy"
    if not file.exists():
        sample_size = POINTS_PER_CELL * count_cells(len(vectors))  # whatever the memory: it decides what is found
        draw = np.random.default_rng(random_seed)
        rows = np.unique(draw.integers(0, len(vectors), sample_size))
        stored, _ = read_stored(vectors[rows])
        sample = stored.astype(np.float32)
        sample /= np.linalg.norm(sample, axis=1, keepdims=True)
        num_cells = min(count_cells(len(vectors)), max(1, len(sample) // 4))
        centroids = fit(sample, num_cells, random_seed)
        groups = fit(centroids, math.ceil(math.sqrt(len(centroids))), random_seed)
        _, group = faiss.knn(centroids, groups, 1, metric=faiss.METRIC_INNER_PRODUCT)
        write_array(centroids[np.argsort(group[:, 0], kind="stable")], file)
    return file


def fit(vectors: np.ndarray, num_cells: int, random_seed: int) -> np.ndarray:
    """Return k-means centroids of unit length, float32 [C, D]."""
    gpu = getattr(faiss, "get_num_gpus", lambda: 0)() > 0
    kmeans = faiss.Kmeans(
        vectors.shape[1],
        num_cells,
        niter=ITERATIONS,
        seed=random_seed % 2**31,
        spherical=True,
        min_points_per_centroid=1,
        gpu=gpu,
    )
    kmeans.train(vectors)
    return np.asarray(kmeans.centroids)


def load_centroids(file: Path) -> torch.Tensor:
    """Read centroids for `rank_cells`."""
    look = choose_first_look()
    return torch.from_numpy(np.load(file)).to(look.device, look.dtype)


@dataclass(frozen=True)
class Layout:
    """Vectors in the order of their cells: `block-*.npy`, and beside each block what its rows are."""

    folder: Path
    block_rows: int
    offsets: np.ndarray  # int64 [C + 1], where each cell starts

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the stored vectors float16 [stop - start, D]."""
        return self.read_files("block", start, stop)

    def read_index(self, start: int, stop: int) -> np.ndarray:
        """Return records of `row` (int64, position among the vectors laid out) and `probes` (int32 [P], own first)."""
        return self.read_files("index", start, stop)

    def read_files(self, name: str, start: int, stop: int) -> np.ndarray:
        """Read a range of rows, which may span blocks."""
        parts = []
        for block in range(start // self.block_rows, (stop - 1) // self.block_rows + 1):
            base = block * self.block_rows
            parts.append(read_rows(self.folder / f"{name}-{block:06d}.npy", max(0, start - base), stop - base))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


@lru_cache(maxsize=4096)
def read_header(file: Path) -> tuple[tuple[int, ...], int, np.dtype]:
    """Return the shape of a .npy file, where its numbers start and their kind."""
    array = np.load(file, mmap_mode="r")
    return array.shape, array.offset, array.dtype


def read_rows(file: Path, start: int, stop: int) -> np.ndarray:
    """Read some rows of a .npy file; unlike a mapped file, what was read does not stay in this process's memory."""
    (num_rows, *shape), offset, kind = read_header(file)
    count, width = min(stop, num_rows) - start, math.prod(shape)
    rows = np.fromfile(file, kind, count * width, offset=offset + start * width * kind.itemsize)
    return rows.reshape(count, *shape)


class Run(NamedTuple):
    """A piece of the rows, to be assigned and sorted by cell."""

    vectors: Vectors
    start: int  # position of its first row
    stem: Path  # of its files: vectors and index in cell order, and the place of each row in the layout

    def file(self, name: str) -> Path:
        """Return one of its files."""
        return name_file(self.stem, name)


def name_file(stem: Path, name: str) -> Path:
    """Return one of a run's files."""
    return stem.with_name(f"{stem.name}-{name}.npy")


class Block(NamedTuple):
    """A piece of the layout, to be merged from slices of the runs."""

    number: int
    rows: range  # of the layout
    slices: list[tuple[Path, int, int]]  # stem of the run, and what of it: a run itself knows all its rows by number


def lay_out(vectors: Vectors, centroids: Path, probes: int, bench: Workbench) -> Layout:
    """Write vectors in cell order into the bench's folder; each remembers its `probes` nearest cells."""
    bench.folder.mkdir(parents=True, exist_ok=True)
    rows = count_rows(vectors.dim, bench)
    layout_rows = rows * min(MOST_PIECES, math.ceil(len(vectors) / (MERGES * rows)))
    offsets_file, complete = bench.folder / "offsets.npy", bench.folder / "complete"
    if not complete.exists():
        runs = [
            Run(vectors[start : start + rows], start, bench.folder / f"run-{start:012d}")
            for start in range(0, len(vectors), rows)
        ]
        for _ in bench.executor.map(partial(assign_run, centroids, probes), runs):
            pass
        if not offsets_file.exists():
            write_array(count_out(runs, len(np.load(centroids, mmap_mode="r"))), offsets_file)
        blocks = cut_blocks(runs, layout_rows, int(np.load(offsets_file)[-1]))
        for _ in bench.executor.map(partial(merge_block, bench.folder), blocks):
            pass
        complete.touch()
    for stray in bench.folder.glob("run-*.npy"):
        stray.unlink()
    return Layout(bench.folder, layout_rows, np.load(offsets_file))


def assign_run(centroids: Path, probes: int, run: Run) -> None:
    """Leave a run's files, unless they are there."""
    if run.file("vectors").exists():
        return
    stored, positions = read_stored(run.vectors)
    cells = load_centroids(centroids)
    nearest = rank_cells(prepare(stored), cells, min(probes, len(cells)))
    order = np.argsort(nearest[:, 0], kind="stable")
    index = np.empty(len(order), dtype=[("row", "<i8"), ("probes", "<i4", (nearest.shape[1],))])
    index["row"], index["probes"] = positions[order] + run.start, nearest[order]
    write_array(index, run.file("index"))
    write_array(stored[order], run.file("vectors"))


def count_out(runs: list[Run], num_cells: int) -> np.ndarray:
    """Leave the place of each run's rows in the layout; return where each cell starts, int64 [C + 1]."""
    sizes = np.zeros(num_cells, dtype=np.int64)
    for run in runs:
        sizes += np.bincount(read_homes(run), minlength=num_cells)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    taken = offsets[:-1].copy()
    for run in runs:
        homes = read_homes(run)
        counts = np.bincount(homes, minlength=num_cells)
        within = np.arange(len(homes)) - np.repeat(np.cumsum(counts) - counts, counts)
        write_array(taken[homes] + within, run.file("places"))
        taken += counts
    return offsets


def read_homes(run: Run) -> np.ndarray:
    """Return the cell of each of a run's rows, ascending."""
    return np.array(np.load(run.file("index"), mmap_mode="r")["probes"][:, 0])


def cut_blocks(runs: list[Run], block_rows: int, num_rows: int) -> list[Block]:
    """Find out what of each run belongs into each block of the layout."""
    blocks = [
        Block(number, range(start, min(num_rows, start + block_rows)), [])
        for number, start in enumerate(range(0, num_rows, block_rows))
    ]
    bounds = [block.rows.start for block in blocks] + [num_rows]
    for run in runs:
        cuts = np.searchsorted(np.load(run.file("places"), mmap_mode="r"), bounds).tolist()
        for block, start, stop in zip(blocks, cuts, cuts[1:], strict=False):
            block.slices.append((run.stem, start, stop))
    return blocks


def merge_block(folder: Path, block: Block) -> None:
    """Leave a block's files, unless they are there."""
    if (folder / f"block-{block.number:06d}.npy").exists():
        return
    for name, source in (("index", "index"), ("block", "vectors")):
        first = np.load(name_file(block.slices[0][0], source), mmap_mode="r")
        merged = np.empty((len(block.rows), *first.shape[1:]), dtype=first.dtype)
        for stem, start, stop in block.slices:
            places = np.load(name_file(stem, "places"), mmap_mode="r")[start:stop] - block.rows.start
            merged[places] = np.load(name_file(stem, source), mmap_mode="r")[start:stop]
        write_array(merged, folder / f"{name}-{block.number:06d}.npy")
