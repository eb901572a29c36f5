"""Ours and a peer on the same work, in turn, each in a process of its own: what every benchmark here is made of.

A contestant is a command that prints one JSON object as its last line; `Meter` takes the figures inside it. Only the
standard library is imported, so that peers in environments of their own can use it too, from the repository's root.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(os.environ.get("BENCHMARK_RESULTS", ROOT / "benchmarks/results"))  # set by `benchmarks.run --results`


class Meter:
    """Wall and processor time, and the growth of the peak resident size, between entering and leaving. Linux only.

    Attributes:
        figures: `seconds` and `cpu_seconds` (this process, all threads), `peak_mib`; there once the block is left.
    """

    def __enter__(self) -> Meter:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from the present size
        self._held = resident_mib()
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exception: object) -> None:
        wall, cpu = self._began
        self.figures = {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "peak_mib": _status("VmHWM") - self._held,
        }


def resident_mib() -> float:
    """What this process holds now."""
    return _status("VmRSS")


def _status(name: str) -> float:
    """A size of this process in MiB, as Linux counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def children_seconds() -> float:
    """Processor time of all processes that this one started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def in_turn(
    contestants: Mapping[str, Sequence[object]], rounds: int = 2, environment: Mapping[str, str] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Run each command `rounds` times, ours, theirs, ours, theirs, and read the JSON object each printed last.

    Raises:
        SystemExit: a contestant failed; its last lines are in the message.
    """
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, command in contestants.items():
            done = subprocess.run(
                [str(word) for word in command],
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                capture_output=True,
                text=True,
            )
            if done.returncode != 0:
                raise SystemExit(f"{name} failed with {done.returncode}:\n{done.stderr[-3000:]}")
            figures[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(
                f"  round {number + 1} of {rounds}, {name}: {json.dumps(figures[name][-1])}",
                file=sys.stderr,
                flush=True,
            )
    return figures


def best(runs: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The least of every number over the runs: what other work on the machine disturbed least."""
    runs = list(runs)
    return {key: min(run[key] for run in runs) for key, value in runs[0].items() if isinstance(value, int | float)}


@dataclass(frozen=True)
class Target:
    """A figure beside its limit."""

    what: str
    measured: float
    limit: float
    sense: str = "at least"  # or "at most"

    @property
    def reached(self) -> bool:
        """Whether the figure is on the right side of its limit."""
        return self.measured >= self.limit if self.sense == "at least" else self.measured <= self.limit

    def __str__(self) -> str:
        verdict = "reached" if self.reached else "MISSED"
        return f"{self.what}: {self.measured:.3g}, wanted {self.sense} {self.limit:.3g}: {verdict}"


def record(
    benchmark: str, figures: Mapping[str, Any], targets: Sequence[Target] = (), packages: Sequence[str] = ()
) -> None:
    """Print each target and append the whole as one JSON line to results/PACKAGE.jsonl.

    Args:
        benchmark: `package/name`, as the file below benchmarks/.
        figures: what was measured, and the shapes it was measured with.
        targets: figures that the project set itself.
        packages: distributions whose versions belong to the result.
    """
    package, name = benchmark.split("/")
    for target in targets:
        print(target, flush=True)
    line = {
        "benchmark": name,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "load": os.getloadavg()[0],
        **figures,
        "targets": [asdict(target) | {"reached": target.reached} for target in targets],
        "versions": versions(packages),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    with open(RESULTS / f"{package}.jsonl", "a") as results:
        results.write(json.dumps(line) + "\n")


def machine() -> str:
    """Processor, cores, threads asked for, and GPU of this machine."""
    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    words = [processor, f"{os.cpu_count()} cores", f"{os.environ.get('OMP_NUM_THREADS', 'all')} threads"]
    if shutil.which("nvidia-smi"):
        query = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
        words += [line.split(" (UUID")[0] for line in query.splitlines()]
    return ", ".join(words)


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines() if Path(file).exists() else []


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions, and Python's own."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def peer_python(name: str) -> Path:
    """The interpreter of a peer's environment, made anew where it is not that of the pins in peers/NAME.txt."""
    folder = ROOT / ".peers" / name
    python, whole, pins = folder / "bin/python", folder / "whole", ROOT / f"benchmarks/peers/{name}.txt"
    if not whole.exists() or whole.read_text() != pins.read_text():
        print(f"  installing benchmarks/peers/{name}.txt", file=sys.stderr, flush=True)
        uv = os.environ.get("UV", "uv")  # `uv run` says where it is
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", "3.11", folder], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "--requirements", pins], check=True)
        shutil.copy(pins, whole)
    return python
