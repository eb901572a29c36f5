"""Checks that settings of every room share."""

from __future__ import annotations

from typing import Any

from lvd_evaluate.errors import InputError

MANY = 2**31


def require_positive(key: str, value: int | None) -> None:
    """Refuse a number below 1, by its key; None passes."""
    if value is not None and value < 1:
        raise InputError(f"{key}={value}: must be 1 or more")


def require_sane(key: str, value: Any) -> None:
    """Refuse numbers that are not finite, or beyond what any library counts with; looks into mappings and lists."""
    if isinstance(value, dict):
        for name, inner in value.items():
            require_sane(f"{key}.{name}" if key else name, inner)
    elif isinstance(value, list):
        for inner in value:
            require_sane(key, inner)
    elif isinstance(value, int | float) and not -MANY <= value <= MANY:
        raise InputError(f"{key}={value}: must lie between {-MANY} and {MANY}")
