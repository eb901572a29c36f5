"""How time and memory of `curate build-lvd` grow with the pool, stage by stage: 10,000, 100,000 and a million images.

    python -m benchmarks.curate.growth_curve --folder SCRATCH [--sizes 10000 100000 1000000] [--hashes]

The world (`growth_world`) is rendered once into the folder, 3 GB for a million images; a build takes 4 GB more while
it runs. Vectors stand for the encoder, which is not what is measured. A size that was measured is not measured again:
its line is in SCRATCH/measured.jsonl. Slopes are those of log(processor time), which other jobs disturb less than the
clock, over log(images) between neighbouring sizes, wanted at most 1.1 for every stage that takes two seconds or more,
but for k-means training: it has a cluster per 75 images, so its work is their square. (So is that of assigning images
to them, in `cluster`, and, as seeds grow with the pool here, that of `retrieve`; both are bounded all the same.) Peak
memory likewise. `--hashes` searches for copies by hashes, too; without, by vectors alone (the search is left out here:
the build itself has no knob for that). Checked: nine in ten planted copies and all byte-equal ones are dropped.
"""

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

from benchmarks.turns import ROOT, Target, record

STEEPEST, SHORTEST = 1.1, 2.0  # slope; seconds at the larger size below which a slope says nothing
UNBOUNDED = "k-means training"
PACKAGES = ("lvd-curate", "polars", "pyarrow", "numpy", "faiss-gpu", "pillow")


def measure(world: Path, workers: int, *, hashes: bool) -> dict[str, Any]:
    """Build the dataset of one world in this process and its workers; return the figures of every stage."""
    from benchmarks.curate.stage_clock import StageClock

    from lvd_curate.config import DeduplicateConfig, EmbedConfig, ExecutionConfig
    from lvd_curate.copy_detection import copies
    from lvd_curate.pipeline import build_lvd
    from lvd_curate.recipes import BuildConfig

    spec = f"embeddings:{world / 'vectors.npy'}"
    config = BuildConfig(
        pool={"web": str(world / "pool")},
        seeds={"seeds": str(world / "seeds.parquet")},
        exclude={"test": str(world / "excluded.parquet")},
        embed=EmbedConfig(encoder=spec),
        deduplicate=DeduplicateConfig(encoder=spec),
        execution=ExecutionConfig(workers=workers, max_ram_gb=4),
    )
    out = world / "dataset"
    for folder in (out, world / "dataset.work"):
        shutil.rmtree(folder, ignore_errors=True)
    if not hashes:
        setattr(copies, "find_hashed_pairs", lambda *_: iter(()))  # noqa: B010
    clock = StageClock()
    with clock.ticking():
        build_lvd(config, out)
    found = check(out, int(world.name))
    for folder in (out, world / "dataset.work"):
        shutil.rmtree(folder)
    return {"stages": clock.figures, "counts": found}


def check(out: Path, count: int) -> dict[str, int]:
    """Return how many files each stage dropped, and how many it kept; assert that the planted copies are found."""
    from benchmarks.curate.growth_world import COPY_EVERY, EQUAL_EVERY

    counts = json.loads((out / "provenance.json").read_text())["counts"]
    dropped = {step["stage"]: step["dropped"] for step in counts["funnel"]["pool"]}
    planted = count // COPY_EVERY - count // EQUAL_EVERY
    assert dropped["screen"] == count // EQUAL_EVERY, dropped
    assert dropped["deduplicate"] >= 0.9 * planted, dropped
    return dropped | {"kept": counts["images"]["pool"]}


def measure_apart(folder: Path, size: int, workers: int, *, hashes: bool) -> dict[str, Any]:
    """Measure a size in a process of its own, unless it was measured before."""
    done = folder / "measured.jsonl"
    for line in done.read_text().splitlines() if done.exists() else []:
        before = json.loads(line)
        if (before["images"], before["workers"], before["hashes"]) == (size, workers, hashes):
            return before
    from benchmarks.curate.growth_world import make_world

    world = make_world(folder, size, workers)
    words = [sys.executable, "-m", "benchmarks.curate.growth_curve", "--measure", str(world)]
    words += ["--workers", str(workers), *["--hashes"] * hashes]
    shown = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found = {"images": size, "workers": workers, "hashes": hashes, "load": os.getloadavg()[0]}
    found |= json.loads(shown.stdout.splitlines()[-1])
    with open(done, "a") as lines:
        lines.write(json.dumps(found) + "\n")
    return found


def compare(smaller: dict[str, Any], larger: dict[str, Any]) -> list[Target]:
    """Return the slopes between two sizes that are bounded, and print every stage's figures."""
    step, targets = log(larger["images"] / smaller["images"]), []
    print(f"{larger['images']:,} images{'seconds':>19}{'slope':>8}{'CPU s':>9}{'slope':>8}{'MiB':>9}{'slope':>8}")
    for stage, figures in larger["stages"].items():
        before = smaller["stages"].get(stage, {})
        slopes = {key: log(value / before[key]) / step for key, value in figures.items() if value and before.get(key)}
        shown = [(figures.get(key, 0.0), slopes.get(key)) for key in ("seconds", "cpu_seconds", "peak_mib")]
        print(
            f"{stage:24}"
            + "".join(f"{value:9.1f}{'' if slope is None else f'{slope:.2f}':>8}" for value, slope in shown)
        )
        if stage != UNBOUNDED and figures["seconds"] >= SHORTEST:
            between = f"{smaller['images']:,} to {larger['images']:,}"
            targets += [
                Target(f"slope of {what}, {stage}, {between}", slopes[key], STEEPEST, "at most")
                for what, key in (("processor time", "cpu_seconds"), ("memory", "peak_mib"))
                if key in slopes
            ]
    return targets


def main() -> None:
    """Measure each size, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="for the images, what a build writes, and what was measured")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--hashes", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("faiss").setLevel(logging.WARNING)
    if given.measure:
        print(json.dumps(measure(given.measure.absolute(), given.workers, hashes=given.hashes)))
        return
    if given.folder is None:
        parser.error("say where there is room: --folder SCRATCH")
    runs = [measure_apart(given.folder.absolute(), size, given.workers, hashes=given.hashes) for size in given.sizes]
    targets = [target for smaller, larger in pairwise(runs) for target in compare(smaller, larger)]
    record("curate/growth_curve", {"runs": runs}, targets, PACKAGES)


if __name__ == "__main__":
    main()
