"""Where metrics go beside metrics.jsonl: every tracker Accelerate knows, TensorBoard when it is there."""

from __future__ import annotations

import difflib
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import LoggerType

from lvd_pretrain.errors import InputError

DEFAULT = "tensorboard"


def tracker_names(asked: list[str] | None) -> list[str]:
    """Trackers to start: those asked for, or TensorBoard if it is installed.

    Raises:
        InputError: Accelerate does not know one, or it is not installed.
    """
    known = {str(name) for name in LOGGER_TYPE_TO_CLASS}
    builtin = {name.value for name in LoggerType}
    installed = {str(getattr(name, "value", name)) for name in get_available_trackers()} | (known - builtin)
    if asked is None:
        return [DEFAULT] if DEFAULT in installed else []
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
            raise InputError(f"trackers={name}: not one of {', '.join(sorted(known))}; the nearest is {near[0]}")
        if name not in installed:
            raise InputError(f"trackers={name}: not installed; install its package or leave it out")
    return list(dict.fromkeys(asked))


def flat_settings(tree: dict[str, Any], prefix: str = "") -> dict[str, int | float | str | bool]:
    """A configuration in the form trackers take: dotted names, plain values."""
    flat: dict[str, int | float | str | bool] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flat_settings(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat
