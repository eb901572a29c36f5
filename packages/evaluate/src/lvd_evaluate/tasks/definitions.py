"""The paper's data sets as data: how a probe must read each, as an entry of a benchmark recipe."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import yaml

from lvd_evaluate.errors import InputError

SOURCES = {  # what --data wants of each kind where the hub does not serve it
    "classification": ["train=PATH", "test=PATH"],
    "segmentation": ["train=PATH", "test=PATH"],
    "depth": ["train=PATH", "test=PATH"],
    "video": ["train=PATH", "test=PATH"],
    "retrieval": ["queries=PATH", "database=PATH"],
}


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One data set; what is not known for sure is absent."""

    name: str
    kind: str  # classification, robustness, segmentation, depth, retrieval or video
    metric: str  # that tables show
    source: str  # where the facts stand
    probes: list[str] = field(default_factory=list)  # that the paper reads it with; none: no probe of ours does
    base: str | None = None  # robustness: the data set whose head answers
    hub: str | None = None  # Hugging Face id
    counts: dict[str, int] = field(default_factory=dict)  # images, clips or queries per set
    settings: dict[str, Any] = field(default_factory=dict)  # of a recipe, beyond the defaults
    notes: str = ""

    @property
    def data(self) -> list[str]:
        """Values of --data, PATH where the user's own belongs."""
        if self.kind == "robustness":
            return [*load_definition(self.base or "").data, f"{self.name}={self.hub or 'PATH'}"]
        return [self.hub] if self.hub else SOURCES[self.kind]


def load_definition(name: str) -> Definition:
    """The definition of that name.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    known = _definitions()
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise InputError(f"no task is called '{name}'; the nearest is '{nearest}' (evaluate tasks lists them)")
    return known[name]


def definition_names() -> list[str]:
    """Names of all definitions, in the order of the file."""
    return list(_definitions())


def list_definitions() -> str:
    """A line per data set."""
    lines = [("task", "kind", "metric", "sizes", "hub")]
    for found in _definitions().values():
        sizes = ", ".join(f"{count:,} {name}" for name, count in found.counts.items())
        lines.append((found.name, found.kind, found.metric, sizes, found.hub or ""))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def recipe_of(names: Sequence[str]) -> str:
    """The tasks as the text of a benchmark recipe, to be saved as YAML; the paths are the user's to fill in.

    Raises:
        InputError: no such task, or one that no probe reads.
    """
    parts = ["protocol: dinov2", "tasks:"]
    for found in map(load_definition, names):
        probes = ["robustness"] if found.kind == "robustness" else found.probes
        if not probes:
            raise InputError(f"{found.name}: no probe reads it as the paper does ({found.notes})")
        entry: dict[str, Any] = {"data": found.data, "probes": probes}
        if found.settings:
            entry["settings"] = found.settings
        about = [f"{found.source}.", *([found.notes] if found.notes else [])]
        parts += [f"  # {line}" for line in textwrap.wrap(" ".join(about), 110)]
        text = yaml.safe_dump({found.name: entry}, sort_keys=False, default_flow_style=None, width=110)
        parts += [f"  {line}" for line in text.splitlines()]
    return "\n".join(parts) + "\n"


@cache
def _definitions() -> dict[str, Definition]:
    text = resources.files("lvd_evaluate").joinpath("task_definitions.yaml").read_text()
    found = {name: Definition(name=name, **facts) for name, facts in yaml.safe_load(text).items()}
    return found
