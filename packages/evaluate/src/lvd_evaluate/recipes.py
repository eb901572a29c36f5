"""Settings out of defaults <- recipe.yaml <- key=value words."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from lvd_evaluate.config import EvaluateConfig
from lvd_evaluate.errors import InputError
from lvd_evaluate.plain_yaml import read_settings, require_plain

BENCHMARK_KEYS = ("ckpt", "baselines", "tasks")
TASK_KEYS = ("data", "probes", "settings")


@dataclass(frozen=True)
class Assignment:
    """One task of an evaluation: what to read, which probes, all settings."""

    name: str | None  # null: the data's own
    data: list[str]  # values of --data
    probes: list[str]
    config: EvaluateConfig


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark recipe asks for."""

    ckpt: str | None
    baselines: list[str] | None
    assignments: list[Assignment]


def build_config(recipe: Path | None, overrides: Sequence[str]) -> EvaluateConfig:
    """Merge defaults, a recipe file and `key=value` words, in that order.

    Raises:
        InputError: no such recipe, one that is no mapping, an unknown key (the nearest known one is named) or a value
            of the wrong type.
    """
    given: list[tuple[str, Any]] = [(str(recipe), read_recipe(recipe))] if recipe else []
    return _merge([*given, *((word, word) for word in overrides)])


def build_benchmark(recipe: Path, overrides: Sequence[str]) -> Benchmark:
    """Read a benchmark: settings as in any recipe, and the keys `ckpt`, `baselines` and `tasks`.

    `tasks` maps a name to `data` (one value of --data or a list), `probes` (a list) and `settings` (what differs for
    this task). Later wins: defaults, the recipe's own settings, the task's, `key=value` words.

    Raises:
        InputError: as build_config, or a task without data or probes, or with a key that is none of those three.
    """
    given = read_recipe(recipe)
    ckpt, baselines, tasks = (given.pop(key, None) for key in BENCHMARK_KEYS)
    if not isinstance(tasks, dict) or not tasks:
        raise InputError(f"{recipe}: no tasks; a benchmark lists them under 'tasks:' as 'NAME: {{data: [PATH], ...}}'")
    assignments = []
    for name, task in tasks.items():
        place = f"{recipe}, task {name}"
        for key in task if isinstance(task, dict) else [task]:
            if key not in TASK_KEYS:
                raise InputError(f"{place}: unknown key '{key}'; a task has {', '.join(TASK_KEYS)}")
        data, probes = (_listed(task.get(key)) for key in ("data", "probes"))
        if not data or not probes:
            raise InputError(f"{place}: needs data (a path or a list of train=PATH, test=PATH) and probes (a list)")
        words = [(word, word) for word in overrides]
        config = _merge([(str(recipe), given), (place, task.get("settings") or {}), *words])
        assignments.append(Assignment(str(name), data, probes, config))
    return Benchmark(ckpt, None if baselines is None else _listed(baselines), assignments)


def _listed(value: Any) -> list[str]:
    return [str(entry) for entry in (value if isinstance(value, list) else [value])] if value else []


def _merge(sources: Sequence[tuple[str, Any]]) -> EvaluateConfig:
    """All settings from (where they stand, a mapping or a `key=value` word), later ones winning."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    merged = OmegaConf.structured(EvaluateConfig)
    for place, given in sources:
        try:
            if isinstance(given, str):
                require_plain({given.partition("=")[0]: given.partition("=")[2]}, "settings")
            known = OmegaConf.from_dotlist([given]) if isinstance(given, str) else OmegaConf.create(given)
            merged = OmegaConf.merge(merged, known)
        except YAMLError as error:
            raise InputError(f"{place}: not valid YAML ({' '.join(str(error).split())})") from None
        except OmegaConfBaseException as error:
            raise InputError(f"{place}: {_explain(error)}") from None
        except (TypeError, RecursionError) as error:
            raise InputError(f"{place}: no settings ({' '.join(str(error).split())[:200]})") from None
    config = OmegaConf.to_object(merged)
    assert isinstance(config, EvaluateConfig)
    return config


def read_recipe(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        InputError: no such file, not YAML, no mapping, or settings that must not be saved (plain_yaml.py).
    """
    given = read_settings(path)
    require_plain(given, str(path))
    return given


def require_own_config(path: Path) -> None:
    """Look whether the config.yaml that a result folder would get replaces one of another origin: a training run's.

    Raises:
        InputError: it does.
    """
    found = read_settings(path) if path.exists() else {}
    parts = [found] if "bootstrap" in found else found.values()  # of one task, or by the names of several
    if not all(isinstance(part, dict) and "bootstrap" in part for part in parts):
        raise InputError(f"{path} is not evaluate's: give another --out, so that nothing of yours is replaced")


def _explain(error: Any) -> str:
    known = list(_known_keys(EvaluateConfig()))
    if "not in" in str(error) and error.full_key in known:
        first, _, rest = error.full_key.partition(".")
        return f"key '{error.full_key}': a file nests its settings: '{first}:', and on the next line '  {rest}: ...'"
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
