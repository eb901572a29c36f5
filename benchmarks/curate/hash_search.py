"""How the search by hashes grows, beside comparing all (faiss IndexBinaryFlat) and faiss IndexBinaryIVF (2 sqrt(N)).

    python -m benchmarks.curate.hash_search PHOTOGRAPHS.parquet [...] [--sizes 10000 100000 1000000] [--queries 4096]

There are no million photographs here: the images are random crops of the given ones, 25 to 80 % of each side, so bits
are as correlated as those of photographs, and crops of one photograph may be near. Each contestant searches the 36
hashes of the same queries. `recall` is the share of the pairs of different images within 26 bits, of 256 queries
compared with all; the time of comparing all is that of these 256. Confirming by thumbnails is left out.

The slope that is wanted is that from 100,000 images on. Up to 32,768 hashes ours compares all of them, which is cheaper
there than its tables and grows with the square: from 10,000 to 100,000 it changes from the one to the other.
"""

import argparse
import io
import json
import sys
import tempfile
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.turns import Meter, Target, best, in_turn, record

RADIUS, EXACT_QUERIES = 26, 256
TABLES_FROM = 100_000  # images: all are searched through tables, and the slope is theirs


def draw_crops(places: list[str], count: int) -> np.ndarray:
    """Cut thumbnails uint8 [count, 1024] with structure, those of one photograph behind one another."""
    import polars as pl
    from PIL import Image

    draw = np.random.default_rng(0)
    files = pl.concat([pl.read_parquet(place, columns=["image"]) for place in places])["image"].struct.field("bytes")
    crops = np.empty((count, 1024), dtype=np.uint8)
    each, done = -(-count * 21 // (20 * len(files))), 0  # one in twenty may be flat
    for number in draw.permutation(len(files)).tolist():
        image = Image.open(io.BytesIO(files[number])).convert("L")
        for _ in range(min(each, count - done)):
            size = draw.uniform(0.25, 0.8, 2) * image.size
            corner = draw.uniform(0, 1, 2) * (image.size - size)
            crop = image.resize((32, 32), Image.Resampling.BOX, box=(*corner, *(corner + size)))
            crops[done] = np.asarray(crop).ravel()
            done += crops[done].std() >= 2
    return crops[:done]


def search(name: str, file: Path, size: int, queries: int) -> dict[str, float]:
    """Index the first `size` images and look for `queries` of them; leave the first queries' pairs in a file."""
    from lvd_curate.copy_detection.hash_index import one_thread, open_index, search_index, write_index
    from lvd_curate.copy_detection.hashing import hash_views, sum_views
    from lvd_curate.copy_detection.views import VIEWS

    images = np.load(file, mmap_mode="r")[:size]
    hashes = np.concatenate([hash_views(images[row : row + 8192], 0)[0] for row in range(0, size, 8192)])
    rows = np.linspace(0, size - 1, queries).astype(int)
    rows = np.concatenate([rows[:: max(1, queries // EXACT_QUERIES)], rows])[:queries]  # the exact ones come first
    thumbnails = images[rows] if name != "flat" else images[rows[:EXACT_QUERIES]]
    pairs, building = set[int](), Meter()
    with tempfile.TemporaryDirectory() as folder, one_thread(), Meter() as searching:
        with building:
            if name == "ours":
                write_index(hashes, Path(folder))
                tables = open_index(Path(folder))
            else:
                index = build_peer(name, hashes)
        for view in range(0, len(VIEWS), 3):
            sums = np.concatenate([part for number in range(view, view + 3) for part in sum_views(thumbnails, number)])
            if name == "ours":
                seen, found, _ = search_index(tables, sums, RADIUS)
            else:
                distances, places = index.search(np.packbits(sums > 0, axis=1, bitorder="little"), min(32, size))
                seen, ranks = np.nonzero((places >= 0) & (distances <= RADIUS))
                found = places[seen, ranks]
            mine = seen % len(thumbnails)
            pairs.update((mine * size + found)[(mine < EXACT_QUERIES) & (rows[mine] != found)].tolist())
    figures = dict(searching.figures)
    each = (figures["cpu_seconds"] - building.figures["cpu_seconds"]) / len(thumbnails)
    figures |= {
        "build": building.figures["cpu_seconds"],
        "ms_per_image": 1000 * (each + building.figures["cpu_seconds"] / size),
    }
    np.save(file.with_name(f"{name}.npy"), sorted(pairs))
    return figures


def build_peer(name: str, hashes: np.ndarray) -> Any:
    """faiss' index of hashes uint8 [N, 16]: all compared, or cells where there are enough to train them."""
    import faiss

    flat = faiss.IndexBinaryFlat(128)
    if name == "flat" or len(hashes) <= 20_000:
        flat.add(hashes)
        return flat
    cells = faiss.IndexBinaryIVF(flat, 128, round(2 * len(hashes) ** 0.5))
    cells.cp.niter, cells.cp.max_points_per_centroid, cells.nprobe = 6, 64, 64
    cells.train(hashes)
    cells.add(hashes)
    return cells


def main() -> None:
    """Measure every size in turn, and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", nargs="*")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=4096)
    parser.add_argument("--contestant", nargs=3, metavar=("NAME", "FILE", "SIZE"), help="what a child runs")
    given = parser.parse_args()
    if given.contestant:
        name, file, size = given.contestant
        print(json.dumps(search(name, Path(file), int(size), given.queries)))
        return
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "crops.npy"
        np.save(file, draw_crops(given.photographs, max(given.sizes)))
        child = [sys.executable, "-m", "benchmarks.curate.hash_search", "--queries", given.queries, "--contestant"]
        for size in given.sizes:
            runs = in_turn({name: [*child, name, file, size] for name in ("ours", "ivf", "flat")}, rounds=1)
            found = {name: set(np.load(file.with_name(f"{name}.npy")).tolist()) for name in runs}
            rows[size] = {
                name: best(run) | {"recall": len(found["flat"] & found[name]) / len(found["flat"])}
                for name, run in runs.items()
            }
    slopes = {f"{one:,} to {other:,}": slope(rows, one, other) for one, other in pairwise(sorted(rows))}
    for span, value in slopes.items():
        print(f"slope of processor time, {span}: {value:.3g}")
    last = rows[max(rows)]
    targets = [Target("recall beside IndexBinaryIVF", last["ours"]["recall"] / last["ivf"]["recall"], 1.0)]
    for one, other in pairwise(sorted(rows)):
        if one >= TABLES_FROM:
            targets.append(
                Target(f"slope of processor time, {one:,} to {other:,}", slope(rows, one, other), 1.1, "at most")
            )
    record("curate/hash_search", {"sizes": rows, "slopes": slopes}, targets, ["numpy", "faiss-gpu"])


def slope(rows: dict[int, dict[str, dict[str, float]]], one: int, other: int) -> float:
    """By which power of the number of images our processor time grows between two sizes."""
    return 1 + log(rows[other]["ours"]["ms_per_image"] / rows[one]["ours"]["ms_per_image"]) / log(other / one)


if __name__ == "__main__":
    main()
