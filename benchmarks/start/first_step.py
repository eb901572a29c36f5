"""From the command to the end of the first training step, recipe tiny, and what of that is import.

    python -m benchmarks.start.first_step [--rounds 3]

`pretrain tiny` alone, under `accelerate-launch`, and under `accelerate launch`, which imports transformers and timm for
its other subcommands; on 256 rendered photographs. The step has ended when its line stands in metrics.jsonl; the run is
killed then. Beside them, in turn: Python that imports torch, torch and torchvision, and `pretrain`'s own modules, which
nothing of ours can be faster than. Least wall and processor seconds of the rounds. Limit: 15 s on two cores. Where
PYTHONDONTWRITEBYTECODE is set and nobody has compiled the environment, every start compiles torch again, which is most
of the time: `make bench` takes that setting away, and the line says whether it was on.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.photographs import render_folder
from benchmarks.turns import ROOT, Target, best, children_seconds, record

LIMIT = 15.0  # seconds, issue 6
IMPORTS = ("import torch", "import torch, torchvision", "import lvd_pretrain.train")
LAUNCHERS: dict[str, list[str | Path]] = {
    "pretrain": [sys.executable, "-m", "lvd_pretrain"],
    "accelerate-launch": [Path(sys.executable).with_name("accelerate-launch"), "-m", "lvd_pretrain"],
    "accelerate launch": [Path(sys.executable).with_name("accelerate"), "launch", "-m", "lvd_pretrain"],
}
LONGEST = 300.0  # seconds


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=256)
    given = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in (*IMPORTS, *LAUNCHERS)}
    with tempfile.TemporaryDirectory() as folder:
        images = render_folder(Path(folder, "images"), given.images)
        for number in range(given.rounds):
            for name in IMPORTS:
                runs[name].append(until([sys.executable, "-c", name]))
            for name, launcher in LAUNCHERS.items():
                run = Path(folder, f"{name} {number}")
                settings = ["tiny", f"data.path={images}", f"out={run}", "log_every=1"]
                runs[name].append(until([*launcher, *settings], run / "metrics.jsonl"))
    least = {name: best(figures) for name, figures in runs.items()}
    for name, figures in least.items():
        print(f"{name:28}{figures['seconds']:7.2f} s{figures['cpu_seconds']:8.2f} s of processor time")
    targets = [Target(f"first step of {name}, s", least[name]["seconds"], LIMIT, "at most") for name in LAUNCHERS]
    shapes = {"rounds": given.rounds, "images": given.images, "compiled_modules_kept": not sys.dont_write_bytecode}
    record("start/first_step", {**shapes, **least}, targets, ["lvd-pretrain", "torch", "torchvision", "accelerate"])


def until(command: list[str | Path], metrics: Path | None = None) -> dict[str, float]:
    """Wall and processor seconds of a command and its children until its first line of metrics, or until its end.

    Raises:
        SystemExit: it failed, or there was no line after LONGEST seconds.
    """
    used, began = children_seconds(), time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said, start_new_session=True)
        try:
            while process.poll() is None and not has_line(metrics) and time.perf_counter() - began < LONGEST:
                time.sleep(0.02)
            seconds = time.perf_counter() - began
            if process.poll() or (metrics and not has_line(metrics)):
                said.seek(0)
                raise SystemExit(f"{command} came to no step:\n{said.read()[-3000:]}")
            running = process.poll() is None
            cpu = session_seconds(process.pid) if running else children_seconds() - used
            return {"seconds": seconds, "cpu_seconds": cpu}
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def has_line(file: Path | None) -> bool:
    """Whether a file has a whole line by now."""
    return file is not None and file.exists() and "\n" in file.read_text()


def session_seconds(session: int) -> float:
    """Processor time so far of the living processes of a session and of those that they waited for."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()  # a name may hold spaces
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        if int(fields[3]) == session:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
