"""Checks that settings of every room share."""

from __future__ import annotations

from lvd_evaluate.errors import InputError


def require_positive(key: str, value: int | None) -> None:
    """Refuse a number below 1, by its key; None passes."""
    if value is not None and value < 1:
        raise InputError(f"{key}={value}: must be 1 or more")
