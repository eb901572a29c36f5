"""Write the tables of docs/scaling.md: curation and training at sizes that were never run here, as arithmetic.

    python scripts/scaling.py             # write them, between the page's marks
    python scripts/scaling.py --check     # exit code 1 if one is stale
    python scripts/scaling.py --rehearse  # first rehearse the training steps anew, half a minute of a core

Figures, each with its source, stand in scaling.yaml; the arithmetic is that of `curate plan` and `pretrain --plan`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from scaling_curation import render_curation
from scaling_training import rehearse_all, render_check, render_demands, render_disk, render_hours, render_steps

HERE = Path(__file__).resolve().parent
PAGE, FIGURES = HERE.parent / "docs" / "scaling.md", HERE / "scaling.yaml"
BLOCK = re.compile(r"(<!-- scaling: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Write the page, or say that it is stale."""
    if "--rehearse" in sys.argv[1:]:
        keep = FIGURES.read_text(encoding="utf-8").partition("\nrehearsed:")[0]
        found = yaml.safe_dump({"rehearsed": rehearse_all()}, sort_keys=False)
        FIGURES.write_text(f"{keep}\n{found}", encoding="utf-8")
    before = PAGE.read_text(encoding="utf-8")
    after = render_page(before)
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(after, encoding="utf-8")
        return 0
    print(f"{PAGE.name} is {'stale' if after != before else 'as its figures have it'}")
    return int(after != before)


def read_figures() -> dict[str, dict[str, Any]]:
    """Every figure of scaling.yaml, by section and name."""
    figures: dict[str, dict[str, Any]] = yaml.safe_load(FIGURES.read_text(encoding="utf-8"))
    return figures


def render_page(text: str) -> str:
    """The page with its tables made anew."""
    figures = read_figures()
    tables: Mapping[str, Callable[[dict[str, dict[str, Any]]], list[str]]] = {
        "curation": render_curation,
        "steps": render_steps,
        "demands": render_demands,
        "hours": render_hours,
        "disk": render_disk,
        "check": render_check,
        "figures": render_figures,
    }
    return BLOCK.sub(lambda found: "\n".join([found[1], *tables[found[2]](figures), "", found[3]]), text)


def render_figures(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where every number comes from."""
    lines = ["| figure | value | from |", "|---|---:|---|"]
    for each in figures["measured"].values():
        file, benchmark = each["record"].split("/")
        where = f"measured: `{benchmark}` in `benchmarks/results/{file}.jsonl`"
        lines.append(f"| {each['what']} | {each['value']:,.5g} | {where} |")
    for name, each in figures["published"].items():
        lines.append(f"| GPU hours of `{name}` | {each['a100_hours']:,} | published: {each['where']} |")
    for each in figures["assumed"].values():
        lines.append(f"| {each['what']} | {each['value']:,.5g} | assumed |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
