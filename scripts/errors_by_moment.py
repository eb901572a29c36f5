"""The page of every error line: by tool and by the moment it is said, with the way out that its lines share.

Lines are read from the code; what docs/troubleshooting.md says of one stands beside it. Made with the site, so that the
site's search finds a line there.
"""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml
from errors_in_code import REPOSITORY, list_errors

EXPLAINED = re.compile(r"^\| `([^`]+)` \| (.*) \|$", re.MULTILINE)
LINK = re.compile(r"\]\((?![a-z]+:)([^)]+)\)")


class Moment(NamedTuple):
    """When lines are said, the way out that they share, and the modules that say them."""

    title: str
    remedy: str
    modules: list[str]


def render_errors() -> str:
    """The page."""
    explained = read_explanations()
    lines = ["# Every error line", ""]
    lines += [
        "Read from the code; … is a value. A second cell says more than the line itself does. Signs without a line,"
    ]
    lines += ["and what libraries and the system say: [Troubleshooting](../troubleshooting.md).", ""]
    for tool, moments in read_moments().items():
        said = [(line, find_moment(tool, module)) for line, module in list_errors(tool)]
        lines += [f"## {tool}", ""]
        for moment in moments:
            lines += [f"### {tool}: {moment.title.lower()}", "", moment.remedy, "", "| line | |", "| --- | --- |"]
            lines += [render_row(line, explained) for line, when in said if when is moment]
            lines.append("")
    return "\n".join(lines)


@cache
def read_moments() -> dict[str, list[Moment]]:
    """Tool -> its moments, in their order."""
    read = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return {tool: [Moment(**moment) for moment in moments] for tool, moments in read.items()}


def find_moment(tool: str, module: str) -> Moment:
    """When a module speaks.

    Raises:
        LookupError: the module stands under no moment.
    """
    name = module.removesuffix(".py").removesuffix("/__init__")
    fits = [
        (len(known), moment)
        for moment in read_moments()[tool]
        for known in moment.modules
        if name == known.rstrip("/") or (known.endswith("/") and name.startswith(known))
    ]
    if not fits:
        raise LookupError(f"when does lvd_{tool}/{module} speak? Add it to a moment in scripts/errors_by_moment.yaml")
    return max(fits, key=lambda fit: fit[0])[1]


def read_explanations() -> list[tuple[re.Pattern[str], str]]:
    """(lines that are meant, what to know of them) from the page that explains them, links as this page needs them."""
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    return [
        (re.compile(".*".join(map(re.escape, line.split("…"))), re.DOTALL), LINK.sub(r"](../\1)", told))
        for line, told in EXPLAINED.findall(page)
    ]


def render_row(line: str, explained: list[tuple[re.Pattern[str], str]]) -> str:
    """A line and what is said of it."""
    told = next((told for pattern, told in explained if pattern.search(line)), "")
    text = html.escape(" ".join(line.split())).replace("|", "&#124;")
    return f"| <code>{text}</code> | {told} |"
