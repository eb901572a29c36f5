"""How fast `curate` screens JPEGs (read, sha256, decode, hash), and whether its memory grows with their number.

    python -m benchmarks.curate.decode_rate [--counts 10000 100000] [--workers 2]

Renders 500 photograph-like JPEGs of 500x375 pixels at quality 90 (about 35 kB) into a temporary folder and links them
under as many names as asked for. Each count is screened in a fresh process by the step that the commands use, on worker
processes. Rates are per second and per CPU second of all processes; memory is the highest sum of the resident sizes of
the whole process tree, sampled ten times a second (pages that processes share count in each).
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from benchmarks.photographs import render_photograph
from benchmarks.turns import in_turn, record

from lvd_curate.config import ExecutionConfig, ScreenConfig
from lvd_curate.engine.runner import open_runner
from lvd_curate.steps import ImageSet, screen_inputs

DISTINCT, PER_FOLDER = 500, 1000
FALLOFF = 1.5  # of the renderer: small files, as the first figures were measured with


def link_files(originals: list[Path], folder: Path, count: int) -> None:
    """Give the originals `count` names."""
    for number in range(count):
        place = folder / f"{number // PER_FOLDER:04d}"
        if number % PER_FOLDER == 0:
            place.mkdir(parents=True)
        os.link(originals[number % len(originals)], place / f"{number:07d}.jpg")


class PeakMemory(threading.Thread):
    """Samples the resident size of this process and its children until it is asked for the peak."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.done, self.me = 0, threading.Event(), psutil.Process()

    def run(self) -> None:
        """Sample."""
        while not self.done.wait(0.1):
            total = 0
            for process in [self.me, *self.me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak = max(self.peak, total)

    def stop(self) -> int:
        """Return the peak in bytes."""
        self.done.set()
        self.join()
        return self.peak


def measure(folder: Path, workers: int) -> dict[str, float]:
    """Screen a folder in this process and its workers."""
    memory = PeakMemory()
    memory.start()
    start = time.perf_counter()
    with open_runner(folder.with_name(folder.name + ".work"), ExecutionConfig(workers=workers)) as runner:
        screened = screen_inputs(runner, [ImageSet("pool", "jpegs", str(folder))], ScreenConfig(), seeds_first=False)
        files = screened.files
    seconds = time.perf_counter() - start
    usage = os.times()
    assert files["reason"].null_count() == files["local_hash"].drop_nulls().len() == len(files)
    cpu = usage.user + usage.system + usage.children_user + usage.children_system
    return {"images": len(files), "seconds": seconds, "cpu_seconds": cpu, "peak_mb": memory.stop() / 1e6}


def main() -> None:
    """Measure each count in its own process, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.workers)))
        return
    command = [sys.executable, "-m", "benchmarks.curate.decode_rate", "--workers", given.workers, "--measure"]
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        originals = [root / f"{seed}.jpg" for seed in range(DISTINCT)]
        for seed, file in enumerate(originals):
            file.write_bytes(render_photograph(seed, falloff=FALLOFF))
        size = sum(file.stat().st_size for file in originals) / DISTINCT
        for count in given.counts:
            link_files(originals, root / f"pool-{count}", count)
        found = in_turn({f"{count}": [*command, root / f"pool-{count}"] for count in given.counts}, rounds=1)
    runs = [run for (run,) in found.values()]
    for run in runs:
        rate, per_cpu = run["images"] / run["seconds"], run["images"] / run["cpu_seconds"]
        print(
            f"{run['images']:>9,} images of {size / 1000:.0f} kB: {rate:.0f} per second, {per_cpu:.0f} per CPU second, "
            f"peak {run['peak_mb']:.0f} MB"
        )
    record("curate/decode_rate", {"workers": given.workers, "runs": runs}, (), ("lvd-curate", "pillow", "numpy"))


if __name__ == "__main__":
    main()
