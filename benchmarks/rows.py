"""The newest line of every benchmark as tables of docs/results.md: `python -m benchmarks.run --rows`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]
MEASURES = ("seconds", "cpu_seconds", "peak_mib")  # what Meter takes


def read_lines(results: Path) -> Iterator[Line]:
    """Lines of all packages, oldest first, each with its benchmark's full name `package/name`."""
    for file in sorted(results.glob("*.jsonl")):
        for text in file.read_text().splitlines():
            line = json.loads(text)
            yield {**line, "benchmark": f"{file.stem}/{line['benchmark']}"}


def newest(lines: Iterable[Line], names: Sequence[str] = ()) -> list[Line]:
    """The last line of each benchmark, of those named or of all; where a line is of one model, of each model."""
    chosen = [line for line in lines if not names or any(name in each_name(line) for name in names)]
    return list({(line["benchmark"], str(line.get("model"))): line for line in chosen}.values())


def each_name(line: Line) -> tuple[str, str]:
    """What a line is called by: its benchmark and its package."""
    return line["benchmark"], line["benchmark"].split("/")[0]


def markdown(lines: Sequence[Line]) -> str:
    """When and on what, a row per target, and a row per contestant with what `Meter` took."""
    return f"{circumstances(lines)}\n\n{target_table(lines)}\n\n{contestant_table(lines)}"


def circumstances(lines: Sequence[Line]) -> str:
    """Days and machines, and the load that was heaviest there."""
    found: dict[str, float] = {}
    for line in lines:
        where = f"{line['date']}, {line.get('machine', 'machine not said')}"
        found[where] = max(found.get(where, 0.0), line.get("load", 0.0))
    return "\n".join(f"{where}; load up to {load:.1f}." for where, load in found.items())


def target_table(lines: Sequence[Line]) -> str:
    """What was wanted and what came out; lines without targets are records and have no row."""
    rows = ["| `python -m benchmarks...` | what | measured | wanted | |", "|---|---|---:|---:|---|"]
    for line in lines:
        for target in line.get("targets", []):
            wanted = f"{target['sense']} {target['limit']:.3g}"
            verdict = "" if target["reached"] else "missed"
            rows.append(f"| {command(line)} | {target['what']} | {target['measured']:.3g} | {wanted} | {verdict} |")
    return "\n".join(rows)


def contestant_table(lines: Sequence[Line]) -> str:
    """Seconds, processor seconds and MiB at the peak of all that were timed, ours and peers."""
    rows = ["| `python -m benchmarks...` | of | seconds | processor seconds | peak MiB |", "|---|---|---:|---:|---:|"]
    for line in lines:
        for path, figures in contestants(line):
            cells = [f"{figures[each]:.3g}" if each in figures else "" for each in MEASURES]
            rows.append(f"| {command(line)} | {path} | {' | '.join(cells)} |")
    return "\n".join(rows)


def command(line: Line) -> str:
    """A benchmark's name as `python -m benchmarks...` goes on."""
    return f"`{line['benchmark'].replace('/', '.')}`" + (f" {line['model']}" if "model" in line else "")


def contestants(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Every mapping inside a line that holds seconds, and the keys that lead to it."""
    if path and any(isinstance(tree.get(each), int | float) for each in MEASURES):
        yield ", ".join(path), tree
        return
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from contestants(value, (*path, name))
