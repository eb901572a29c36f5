"""How long `--help` of the three tools takes, and of each of their subcommands.

    python -m benchmarks.start.help [--rounds 5] [--tools curate pretrain evaluate]

First each tool once as it is found (files perhaps not in the disk cache), then all in turn, `--rounds` times; the
median counts. Python itself, started to do nothing, is measured beside them. Limit for each: 0.5 s.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.turns import Target, children_seconds, record

LIMIT = 0.5  # seconds, issue 6
TOOLS = ("curate", "pretrain", "evaluate")
SCRIPTS = Path(sys.executable).parent
PYTHON = "python -c pass"


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=TOOLS)
    given = parser.parse_args()
    first = {tool: start(tool)[0] for tool in given.tools}
    commands = [PYTHON, *given.tools, *(f"{tool} {name}" for tool in given.tools for name in subcommands(tool))]
    runs: dict[str, list[tuple[float, float]]] = {command: [] for command in commands}
    for _ in range(given.rounds):
        for command, seconds in runs.items():
            seconds.append(start(command))
    wall, cpu = ({command: median(run[kind] for run in runs[command]) for command in commands} for kind in (0, 1))
    for command in commands:
        print(f"{command:36}{wall[command]:6.2f} s{cpu[command]:8.2f} s of processor time")
    targets = [Target(f"{tool} --help, s", wall[tool], LIMIT, "at most") for tool in given.tools]
    slowest = max((command for command in commands if command != PYTHON), key=lambda command: wall[command])
    targets.append(Target(f"slowest of all ({slowest} --help), s", wall[slowest], LIMIT, "at most"))
    figures = {"rounds": given.rounds, "first_seconds": first, "seconds": wall, "cpu_seconds": cpu}
    record("start/help", figures, targets, ["lvd-curate", "lvd-pretrain", "lvd-evaluate", "typer"])


def start(command: str) -> tuple[float, float]:
    """Wall and processor seconds of `command --help` in a process of its own (of PYTHON without it)."""
    tool, *words = command.split()
    line = [sys.executable, *words] if command == PYTHON else [str(SCRIPTS / tool), *words, "--help"]
    used, began = children_seconds(), time.perf_counter()
    subprocess.run(line, check=True, capture_output=True)
    return time.perf_counter() - began, children_seconds() - used


def subcommands(tool: str) -> list[str]:
    """The commands that a tool's help lists."""
    shown = subprocess.run([SCRIPTS / tool, "--help"], check=True, capture_output=True, text=True)
    listed = re.search(r"^Commands:\n((?:  .*\n)+)", shown.stdout, re.MULTILINE)
    return re.findall(r"^  ([a-z][a-z-]*)", listed[1], re.MULTILINE) if listed else []


if __name__ == "__main__":
    main()
