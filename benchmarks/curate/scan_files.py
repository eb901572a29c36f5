"""How fast a tree of small files is listed, and how much memory that takes, beside `datasets`' imagefolder.

    python -m benchmarks.curate.scan_files [--files 200000] [--rounds 1] [--folder FOLDER]

Makes two trees (a tenth of the files, and all of them; 100 to a folder) in FOLDER, or in a temporary one that is
removed again, and scans each in a fresh process, ours and the peer in turn, `--rounds` times (the least CPU time
counts). "Scan" is: every file's name, place and stamp in LISTING frames for us; data files resolved and the builder
made for `load_dataset("imagefolder")`, which then would still have to be prepared. Checks that both found every file,
prints rates and peak memory above the imports.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.turns import Meter, Target, best, in_turn, record


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
    """Scan in this process; files, and time and memory above that of the imports."""
    import datasets  # noqa: F401
    import polars as pl

    import lvd_curate.stages.ingest

    pl.DataFrame({"warm": [1]}).with_columns(pl.lit("x"))
    assert lvd_curate.stages.ingest
    with Meter() as meter:
        files = SCANS[who](root)
    return meter.figures | {"files": files}


def compare(folder: Path, count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Scan both trees with both in turn, and print what came out."""
    command = [sys.executable, "-m", "benchmarks.curate.scan_files", "--measure"]
    found: dict[str, dict[str, float]] = {}
    print(f"{'':24}{'seconds':>9}{'CPU s':>9}{'files/s':>12}{'MiB above imports':>19}")
    for size, root in {count // 10: folder / "tenth", count: folder / "whole"}.items():
        if not root.exists():
            make_tree(root, size)
        runs = in_turn({who: [*command, who, "--folder", root] for who in SCANS}, rounds, {"HF_HUB_OFFLINE": "1"})
        for who, each in runs.items():
            assert all(run["files"] == size for run in each), f"{who} found {each[0]['files']:,} of {size:,} files"
            found[f"{who} {size}"] = one = best(each)
            shown = f"{one['seconds']:9.2f}{one['cpu_seconds']:9.2f}{size / one['seconds']:12,.0f}"
            print(f"{who:12}{size:12,}{shown}{one['peak_mib']:19.1f}")
    return found


def main() -> None:
    """Read the words, run, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", choices=sorted(SCANS), help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.measure:
        print(json.dumps(measure(words.measure, words.folder)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        scans = compare((words.folder or Path(temporary)).absolute(), words.files, words.rounds)
    ours, theirs = (scans[f"{who} {words.files}"] for who in SCANS)
    targets = [
        Target("imagefolder's processor time over ours", theirs["cpu_seconds"] / ours["cpu_seconds"], 1.0),
        Target("our memory over imagefolder's", ours["peak_mib"] / theirs["peak_mib"], 1.0, "at most"),
    ]
    record("curate/scan_files", {"scans": scans}, targets, ("lvd-curate", "datasets", "polars"))


if __name__ == "__main__":
    main()
