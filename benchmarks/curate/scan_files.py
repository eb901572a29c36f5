"""How fast a tree of small files is listed, and how much memory that takes, beside `datasets`' imagefolder.

    python benchmarks/curate/scan_files.py [--files 200000] [--rounds 1] [--folder FOLDER]

Makes two trees (a tenth of the files, and all of them; 100 to a folder) in FOLDER, or in a temporary one that is
removed again, and scans each in a fresh process, ours and the peer in turn, `--rounds` times (the least CPU time
counts). "Scan" is: every file's name, place and stamp in LISTING frames for us; data files resolved and the builder
made for `load_dataset("imagefolder")`, which then would still have to be prepared. Checks that both found every file,
prints rates and peak memory above the imports, and appends one JSON line to benchmarks/results/curate.jsonl.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results/curate.jsonl"


def make_tree(root: Path, count: int) -> None:
    """Write `count` files of one byte named like photographs."""
    for number in range(count):
        folder = root / f"{number // 10_000:03d}" / f"{number // 100 % 100:02d}"
        if number % 100 == 0:
            folder.mkdir(parents=True, exist_ok=True)
        (folder / f"photo-{number:07d}.jpg").write_bytes(b"x")


def scan_ours(root: Path) -> int:
    """List a folder as `curate build-lvd` does, frame by frame."""
    from lvd_curate.stages.ingest import list_images

    return sum(map(len, list_images("pool", "web", str(root), root)))


def scan_imagefolder(root: Path) -> int:
    """Let `datasets` find a folder's images."""
    import datasets

    builder = datasets.load_dataset_builder("imagefolder", data_dir=str(root), cache_dir=str(root.parent / "cache"))
    files = builder.config.data_files
    assert files is not None
    return sum(map(len, files.values()))


SCANS = {"curate": scan_ours, "imagefolder": scan_imagefolder}


def measure(who: str, root: Path) -> dict[str, float]:
    """Scan in this process; seconds, CPU seconds, files and MB of peak memory above that of the imports."""
    import datasets  # noqa: F401
    import polars as pl

    import lvd_curate.stages.ingest

    pl.DataFrame({"warm": [1]}).with_columns(pl.lit("x"))
    assert lvd_curate.stages.ingest
    before, wall, used = peak_megabytes(), time.perf_counter(), time.process_time()
    files = SCANS[who](root)
    seconds, cpu = time.perf_counter() - wall, time.process_time() - used
    return {"seconds": seconds, "cpu": cpu, "files": files, "megabytes": peak_megabytes() - before}


def peak_megabytes() -> float:
    """Return the most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_apart(who: str, root: Path) -> dict[str, float]:
    """Measure in a fresh process."""
    words = [sys.executable, __file__, "--measure", who, "--folder", str(root)]
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    shown = subprocess.run(words, capture_output=True, text=True, check=True, env=offline)
    return json.loads(shown.stdout.splitlines()[-1])


def compare(folder: Path, count: int, rounds: int) -> dict[str, object]:
    """Scan both trees with both, and print what came out."""
    trees = {count // 10: folder / "tenth", count: folder / "whole"}
    for size, root in trees.items():
        if not root.exists():
            make_tree(root, size)
    best: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for size, root in trees.items():
            for who in SCANS:
                found = run_apart(who, root)
                assert found["files"] == size, f"{who} found {found['files']:,.0f} of {size:,} files"
                key = f"{who} {size}"
                best[key] = min(found, best.get(key, found), key=lambda each: each["cpu"])
    print(f"{'':24}{'seconds':>9}{'CPU s':>9}{'files/s':>12}{'MB above imports':>19}")
    for key, found in best.items():
        rate = found["files"] / found["seconds"]
        print(f"{key:24}{found['seconds']:9.2f}{found['cpu']:9.2f}{rate:12,.0f}{found['megabytes']:19.1f}")
    ratio = best[f"imagefolder {count}"]["cpu"] / best[f"curate {count}"]["cpu"]
    print(f"CPU time of imagefolder / ours: {ratio:.1f}; load {os.getloadavg()[0]:.1f}")
    return {"scans": best, "cpu_ratio": ratio, "load": os.getloadavg()[0]}


def main() -> None:
    """Read the words, run, append the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", choices=sorted(SCANS), help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.measure:
        print(json.dumps(measure(words.measure, words.folder)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        results = compare(words.folder or Path(temporary), words.files, words.rounds)
    machine = {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}
    versions = {name: version(name) for name in ("lvd-curate", "datasets", "polars")} | {
        "python": platform.python_version()
    }
    line = {"benchmark": "scan_files", "date": datetime.date.today().isoformat()} | machine | versions | results
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a") as out:
        out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
