"""Settings out of defaults <- preset <- recipe.yaml <- key=value words; shipped recipes are found by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.errors import InputError
from lvd_pretrain.presets import preset_settings

RECIPES = Path(__file__).with_name("recipes")
LAUNCH_FILES = Path(__file__).with_name("launch_files")  # of accelerate


def find_recipe(word: str) -> Path:
    """A recipe file: a path, or the name of a shipped one, with or without `lvd:` before it.

    Raises:
        InputError: neither.
    """
    path = Path(word)
    if path.is_file():
        return path
    names = sorted(file.stem for file in RECIPES.glob("*.yaml"))
    name = word.removeprefix("lvd:")
    if name in names:
        return RECIPES / f"{name}.yaml"
    raise InputError(f"recipe {word}: no such file, and none that is shipped: {', '.join(names)}")


def find_launch_file(name: str) -> Path:
    """A shipped file for `accelerate launch --config_file`.

    Raises:
        InputError: no such one.
    """
    names = sorted(file.stem for file in LAUNCH_FILES.glob("*.yaml"))
    if name not in names:
        raise InputError(f"launch file {name}: none that is shipped: {', '.join(names)}")
    return LAUNCH_FILES / f"{name}.yaml"


def build_config(recipe: Path | None, overrides: Sequence[str]) -> PretrainConfig:
    """Merge defaults, the preset that words or recipe name, the recipe file and `key=value` words, in that order.

    Raises:
        InputError: no such recipe or preset, an unknown key (the nearest one is named), a value of the wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from lvd_pretrain.plain_yaml import read_settings, require_plain

    given = read_settings(recipe) if recipe else {}
    require_plain(given, str(recipe))
    for word in overrides:
        key, marker, value = word.partition("=")
        if not marker:
            raise InputError(f"'{word}': expected key=value, for example optim.steps=1000")
        require_plain({key: value}, "settings")
    schema = OmegaConf.structured(PretrainConfig)
    source = str(recipe)
    try:
        recipe_tree = OmegaConf.create(given)
        read = OmegaConf.merge(schema, recipe_tree)
        source = " ".join(overrides)
        words = OmegaConf.from_dotlist(list(overrides))
        preset = preset_settings(OmegaConf.merge(read, words).preset)
        config = OmegaConf.to_object(OmegaConf.merge(schema, preset, recipe_tree, words))
    except (TypeError, RecursionError) as error:
        raise InputError(f"{source}: no settings ({' '.join(str(error).split())[:200]})") from None
    except YAMLError as error:
        raise InputError(f"{source}: not valid YAML ({' '.join(str(error).split())})") from None
    except OmegaConfBaseException as error:
        raise InputError(_explain(error, source, overrides)) from None
    assert isinstance(config, PretrainConfig)
    return config


def _explain(error: Any, source: str, overrides: Sequence[str]) -> str:
    key = error.full_key or ""
    if source == " ".join(overrides):  # of all words those that set this key
        source = " ".join(word for word in overrides if f"{key}.".startswith(f"{word.partition('=')[0]}.")) or source
    known = list(_keys(PretrainConfig().to_dict()))
    if "not in" in str(error) and key in known:
        first, _, rest = key.partition(".")
        return f"{source}: key '{key}': a file nests its settings: '{first}:', and on the next line '  {rest}: ...'"
    if "not in" in str(error):
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
        return f"{source}: unknown key '{key}'; the nearest is '{near[0]}'"
    return f"{source}: {key}: {str(error).splitlines()[0]}"


def _keys(tree: dict[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in tree.items():
        keys.append(prefix + key)
        if isinstance(value, dict):
            keys += _keys(value, f"{prefix}{key}.")
    return keys
