"""Settings out of defaults <- recipe.yaml <- key=value words."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from lvd_evaluate.config import EvaluateConfig
from lvd_evaluate.errors import InputError


def build_config(recipe: Path | None, overrides: Sequence[str]) -> EvaluateConfig:
    """Merge defaults, a recipe file and `key=value` words, in that order.

    Raises:
        InputError: no such recipe, one that is no mapping, an unknown key (the nearest known one is named) or a value
            of the wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if recipe is not None and not recipe.is_file():
        raise InputError(f"recipe {recipe}: no such file; settings are written key=value, for example seed=1")
    merged = OmegaConf.structured(EvaluateConfig)
    sources: list[Path | str] = [recipe, *overrides] if recipe else list(overrides)
    for source in sources:
        try:
            given: Any = OmegaConf.from_dotlist([source]) if isinstance(source, str) else _read_recipe(source)
            merged = OmegaConf.merge(merged, given)
        except YAMLError as error:
            raise InputError(f"{source}: not valid YAML ({' '.join(str(error).split())})") from None
        except OmegaConfBaseException as error:
            raise InputError(f"{source}: {_explain(error)}") from None
    config = OmegaConf.to_object(merged)
    assert isinstance(config, EvaluateConfig)
    return config


def _read_recipe(path: Path) -> Any:
    from omegaconf import DictConfig, OmegaConf

    given = None
    try:
        given = OmegaConf.load(path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        if error.errno:  # OmegaConf's own, for a bare number, has none
            raise
    if not isinstance(given, DictConfig):
        raise InputError(f"{path}: holds no settings; a recipe holds 'key: value' lines, for example 'seed: 1'")
    return given


def _explain(error: Any) -> str:
    known = list(_known_keys(EvaluateConfig()))
    if error.full_key and error.full_key not in known:
        nearest = difflib.get_close_matches(error.full_key, known, n=1, cutoff=0.0)[0]
        return f"unknown key '{error.full_key}'; the nearest is '{nearest}'"
    return str(error).splitlines()[0]


def _known_keys(config: Any, prefix: str = "") -> Iterator[str]:
    for entry in fields(config):
        yield prefix + entry.name
        value = getattr(config, entry.name)
        if is_dataclass(value):
            yield from _known_keys(value, f"{prefix}{entry.name}.")
