"""The newest line of every benchmark as rows of docs/results.md: `python -m benchmarks.run --rows`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]


def read_lines(results: Path) -> Iterator[Line]:
    """Lines of all packages, oldest first, each with its benchmark's full name `package/name`."""
    for file in sorted(results.glob("*.jsonl")):
        for text in file.read_text().splitlines():
            line = json.loads(text)
            yield {**line, "benchmark": f"{file.stem}/{line['benchmark']}"}


def newest(lines: Iterator[Line]) -> list[Line]:
    """The last line of each benchmark; those that measure one model per line count by model."""
    return list({(line["benchmark"], str(line.get("model"))): line for line in lines}.values())


def markdown(lines: list[Line]) -> str:
    """One row per target; lines without targets are records, not comparisons, and have none."""
    rows = ["| `python -m benchmarks...` | what | measured | wanted | |", "|---|---|---:|---:|---|"]
    for line in lines:
        for target in line.get("targets", []):
            name = line["benchmark"].replace("/", ".")
            wanted = f"{target['sense']} {target['limit']:.3g}"
            verdict = "" if target["reached"] else "missed"
            rows.append(f"| `{name}` | {target['what']} | {target['measured']:.3g} | {wanted} | {verdict} |")
    return "\n".join(rows)
