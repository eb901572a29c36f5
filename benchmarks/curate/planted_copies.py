r"""How many planted copies hashes, an encoder and imagededup find, and how many strangers they take for copies.

    python -m benchmarks.curate.planted_copies PHOTOGRAPHS.parquet \
        [--every STEP] [--peer] [--encoder SPEC] [--strangers POOL ...]

Every STEP-th photograph (all by default) is edited in each of the eleven ways of `copy_detection.planted`; each set of
copies is compared with the originals, as decontamination compares them, with the defaults. F1 is over pairs (copy,
original). With `--peer` imagededup's four hashes look at the same files: at its default of 10 bits, and at whatever
threshold is best for that edit. The photographs and each POOL are searched for copies within themselves by hashes
alone; what is found is printed. `--quick` renders a few photographs and asks no peer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from benchmarks.photographs import render_photograph
from benchmarks.turns import ROOT, Target, peer_python, record
from PIL import Image

from lvd_curate.columns import SCREENED
from lvd_curate.config import DeduplicateConfig, ScreenConfig
from lvd_curate.copy_detection.copies import CopyBars, Looks, find_copies_between, find_copies_within
from lvd_curate.copy_detection.planted import EDITS, plant_copy
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.inputs.images import decode_rgb
from lvd_curate.inputs.locations import read_bytes
from lvd_curate.models.encoders import load_encoder
from lvd_curate.stages.ingest import list_images
from lvd_curate.stages.screen import screen_file

DEFAULT_BITS = 10  # imagededup's max_distance_threshold
QUICK = 6  # photographs


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", nargs="?")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--encoder")
    parser.add_argument("--strangers", nargs="*", default=[])
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if not (given.photographs or given.quick):
        parser.error("PHOTOGRAPHS.parquet or --quick")
    pools = {} if given.quick else {place: read_photographs(place) for place in [given.photographs, *given.strangers]}
    files = [render_photograph(seed) for seed in range(QUICK)] if given.quick else pools[given.photographs]
    files = files[:: given.every]
    config = DeduplicateConfig()
    bars = CopyBars(config.hash_distance, config.hash_correlation, config.neighbours, config.threshold)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bench = Workbench(folder / "work", InlineExecutor(), 2 * 10**9)
        figures = measure_edits(files, given, bars, bench, folder)
        found = {Path(place).name: count_strangers(place, pools[place], bars, bench, folder) for place in pools}
    leads = [row[-2] - row[0] for row in figures.values()] if given.peer else []
    targets = [Target("imagededup's best hash over ours, F1, worst edit", max(leads), 0.0, "at most")] if leads else []
    facts = {
        "encoder": Path(given.encoder).name if given.encoder else None,
        "photographs": len(files),
        "f1": figures,
        "columns": "hashes, encoder if any, imagededup at 10 bits and at its best if run",
        "pairs_within": {name: pairs[:1000] for name, pairs in found.items()},
        "pairs": {name: len(pairs) for name, pairs in found.items()},
    }
    record("curate/planted_copies", facts, targets, ["numpy", "pillow", "faiss-gpu", "lvd-curate"])


def measure_edits(
    files: list[bytes], given: argparse.Namespace, bars: CopyBars, bench: Workbench, folder: Path
) -> dict[str, list[float]]:
    """Print and return F1 by edit: of hashes, with the encoder if there is one, of the peer if it is asked."""
    edited = {"original": files, **plant_all(files)}
    for name, planted in edited.items():
        (folder / "files" / name).mkdir(parents=True)
        for number, data in enumerate(planted):
            (folder / "files" / name / f"{number:06d}.jpg").write_bytes(data)
    peer = measure_peer(folder / "files", len(files)) if given.peer else {}
    originals = look(files, given.encoder, folder / "looks" / "original")
    figures = {}
    out = partial(print, flush=True)
    out(f"{'edit':16}{'hashes':>8}{'encoder':>9}{'imagededup, 10 bits':>21}{'best bits':>11}")
    for name in EDITS:
        copies = look(edited[name], given.encoder, folder / "looks" / name)
        ours = [
            compute_f1(find_pairs(copies._replace(vectors=vectors), originals, bars, bench), len(files))
            for vectors in ([None, copies.vectors] if given.encoder else [None])
        ]
        figures[name] = [*ours, *peer.get(name, ())]
        columns = [f"{ours[0]:8.4f}", f"{ours[1]:9.4f}" if given.encoder else " " * 9]
        out(f"{name:16}" + "".join(columns) + "".join(f"{value:16.4f}" for value in peer.get(name, ())))
    return figures


def read_photographs(place: str) -> list[bytes]:
    """Return the bytes of every image of a set."""
    listing = pl.concat(list_images("pool", "photographs", place, Path()))
    return [data for data in read_bytes(listing) if isinstance(data, bytes)]


def look(files: list[bytes], encoder: str | None, folder: Path) -> Looks:
    """Screen, and embed when there is an encoder, as the pipeline does; results go to a folder."""
    folder.mkdir(parents=True)
    rows = [screen_file(data, ScreenConfig(min_side=1)) for data in files]
    table = pl.DataFrame(rows, schema=SCREENED, orient="row")
    np.save(folder / "thumbnail.npy", np.frombuffer(b"".join(table["thumbnail"]), dtype="u1").reshape(len(files), -1))
    places = pl.int_range(len(files), dtype=pl.Int64, eager=True)
    table = table.drop("thumbnail").with_columns(row=places, id=places.cast(pl.String) + folder.name)
    if encoder is None:
        return Looks(table, folder / "thumbnail.npy", None)
    model = load_encoder(encoder, "cpu")
    batches = [files[start : start + 32] for start in range(0, len(files), 32)]
    vectors = np.concatenate([model.embed([decode_rgb(data) for data in batch], "fp32") for batch in batches])
    np.save(folder / "embedding.npy", vectors)
    return Looks(table.with_columns(vector=places), folder / "thumbnail.npy", folder / "embedding.npy")


def compute_f1(pairs: set[tuple[int, int]], count: int) -> float:
    """Return F1 of pairs (copy, original), of which the right ones are (n, n)."""
    right = sum(left == match for left, match in pairs)
    return 2 * right / (len(pairs) + count)


def measure_peer(folder: Path, count: int) -> dict[str, tuple[float, float]]:
    """Return imagededup's best F1 of its four hashes per edit: at the default threshold, and at the best one."""
    command = [str(peer_python("imagededup")), "-m", "benchmarks.peers.imagededup_hashes", str(folder)]
    run = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    hashes: dict[str, dict[str, np.ndarray]] = {}
    for line in run.stdout.splitlines():
        method, name, values = json.loads(line)
        hashes.setdefault(name, {})[method] = np.array([int(value, 16) for value in values], dtype=np.uint64)
    best = {}
    for name in EDITS:
        figures = []
        for method, mine in hashes[name].items():
            bits = np.bitwise_count(mine[:, None] ^ hashes["original"][method][None])
            right = np.diag(bits)
            figures.append([2 * (right <= bar).sum() / ((bits <= bar).sum() + count) for bar in range(33)])
        best[name] = (float(np.max(figures, axis=0)[DEFAULT_BITS]), float(np.max(figures)))
    return best


def plant_all(files: list[bytes]) -> dict[str, list[bytes]]:
    """Return the copies of all photographs by edit."""
    planted: dict[str, list[bytes]] = {name: [] for name in EDITS}
    for number, data in enumerate(files):
        image: Image.Image = decode_rgb(data)
        for place, name in enumerate(EDITS):
            planted[name].append(plant_copy(image, name, np.random.default_rng([0, number, place])))
    return planted


def find_pairs(copies: Looks, originals: Looks, bars: CopyBars, bench: Workbench) -> set[tuple[int, int]]:
    """Return the pairs (copy, original) that are found."""
    pieces = find_copies_between(copies, originals, bars, bench)
    return {(left, match) for found in pieces for left, match in found.pairs.tolist()}


def count_strangers(
    place: str, files: list[bytes], bars: CopyBars, bench: Workbench, folder: Path
) -> list[tuple[int, int, float]]:
    """Print and return the pairs that hashes find within a set."""
    looks = look(files, None, folder / "looks" / Path(place).name)
    start = time.process_time()
    best: dict[tuple[int, int], float] = {}
    for found in find_copies_within(looks, bars, bench):
        for (left, right), score in zip(found.pairs.tolist(), found.scores.tolist(), strict=True):
            best[left, right] = max(score, best.get((left, right), 0.0))
    pairs = [(left, right, round(score, 3)) for (left, right), score in sorted(best.items())]
    seconds = time.process_time() - start
    print(f"{place}: {len(pairs)} pairs of {len(files) * (len(files) - 1) // 2:,}, {seconds:.0f} CPU seconds")
    print("".join(f"  rows {left} and {right}: {score}\n" for left, right, score in pairs[:40]), end="", flush=True)
    return pairs


if __name__ == "__main__":
    main()
