"""Rows of a results.jsonl that somebody else may have written: each field is of its kind before it is used."""

from __future__ import annotations

import json
import math
import re
from dataclasses import MISSING, Field
from types import UnionType
from typing import Any, Union, get_args, get_origin

from lvd_evaluate.errors import printable

LINE = 1_000_000  # characters of a row
TEXT = 10_000  # of a text in it
LARGEST = 1e15  # number
MOST_CLASSES = 10_000_000
RUN = re.compile(r"[\w-]{1,64}", re.ASCII)  # names files and folders beside the results


def read_record(line: str, fields: tuple[Field[Any], ...], hints: dict[str, Any]) -> dict[str, Any]:
    """The fields of one row.

    Args:
        line: JSON.
        fields: of the row's dataclass.
        hints: their types.

    Raises:
        ValueError: no such object; says what is wrong with it.
    """
    if len(line) > LINE:
        raise ValueError(f"{len(line):,} characters")
    try:
        record = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError(f"a {type(record).__name__}")
    known = {field.name for field in fields}
    needed = {field.name for field in fields if field.default is MISSING and field.default_factory is MISSING}
    for name in [*sorted(record.keys() - known), *sorted(needed - record.keys())]:
        raise ValueError(f"{'no' if name in needed else 'unknown'} field {name[:TEXT]}")
    for name, value in record.items():
        if not _fits(value, hints[name]):
            raise ValueError(f"{name} is {json.dumps(value)[:80]}")
    _check_inside(record)
    cleaned: dict[str, Any] = _clean(record)
    return cleaned


def _clean(value: Any) -> Any:
    """The same with every text on one line that a terminal or a figure only shows."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(name): _clean(entry) for name, entry in value.items()}
    return [_clean(entry) for entry in value] if isinstance(value, list) else value


def _check_inside(record: dict[str, Any]) -> None:
    """What types do not say."""
    if not RUN.fullmatch(record["run"]):
        raise ValueError(f"run is {record['run'][:80]!a}")
    if not 0 <= record["n_classes"] <= MOST_CLASSES:
        raise ValueError(f"n_classes is {record['n_classes']}")
    for entry in record.get("comparisons", []):
        wanted: dict[str, type] = {"baseline": str, "spec": str, "verdict": str}
        if entry.get("verdict") != "unavailable":
            wanted |= {"delta": float, "ci_low": float, "ci_high": float}
        for name, hint in wanted.items():
            if not _fits(entry.get(name), hint):
                raise ValueError(f"comparisons: {name} is {json.dumps(entry.get(name))[:80]}")
    published = record.get("published")
    if published is not None and not (_fits(published.get("value"), float) and _fits(published.get("source"), str)):
        raise ValueError("published holds no value and source")
    if not _fits(record.get("setting", {}).get("per_class", 0), int):
        raise ValueError("setting: per_class is no number")


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if hint in (int, float):
        kind = int if hint is int else int | float
        return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < LARGEST
    if hint is str:
        return isinstance(value, str) and len(value) <= TEXT
    if origin is list:
        return isinstance(value, list) and all(_fits(entry, get_args(hint)[0]) for entry in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(entry, get_args(hint)[1]) for entry in value.values())
    return True if hint is Any else isinstance(value, hint)
