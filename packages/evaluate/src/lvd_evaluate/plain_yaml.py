"""YAML from elsewhere as plain settings: nothing is built, looked up or multiplied by reading it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lvd_evaluate.errors import UNPRINTABLE, InputError

LIMIT = 1_000_000  # bytes of a file of settings
VALUES = 100_000  # of one, what aliases stand for counted each time
LOGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]*@", re.IGNORECASE)  # https://user:password@host


class PlainLoader(yaml.SafeLoader):
    """Numbers, words, lists and mappings; no key twice, dates as words, no file that unfolds into gigabytes."""

    def get_single_node(self) -> yaml.Node | None:
        """The whole document, before anything is made of it."""
        node = super().get_single_node()
        if node is not None and _count(node, {}) > VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {VALUES:,} values")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping, each key once."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return node


PlainLoader.yaml_implicit_resolvers = {
    first: [rule for rule in rules if rule[0] != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Values below a node; one that holds itself has no end."""
    if id(node) not in known:
        known[id(node)] = VALUES + 1
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]


def read_settings(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        InputError: not there, no file, too large, no YAML, no mapping.
    """
    if not path.is_file():  # a pipe or a device would be waited for
        raise InputError(f"recipe {path}: no such file; settings are written key=value, for example seed=1")
    if path.stat().st_size > LIMIT:
        raise InputError(f"{path}: {path.stat().st_size:,} bytes; settings are text of at most {LIMIT:,}")
    try:
        tree = yaml.load(path.read_bytes().decode("utf-8-sig"), Loader=PlainLoader)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())[:300]})") from None
    except RecursionError:
        raise InputError(f"{path}: not valid YAML (nested too deeply)") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path}: holds no settings; a recipe holds 'key: value' lines, for example 'seed: 1'")
    return tree


def require_plain(tree: Any, place: str) -> None:
    """Settings are written beside the results and shown: nothing secret, nothing to be filled in, nothing unprintable.

    Raises:
        InputError: `${...}`, which could copy a password out of the environment; a URL with a login; or a control
            character. Names the setting, not its value.
    """
    for key, text in _texts(tree, ""):
        where = f"{place}: {key}" if key else place
        if "${" in text:
            raise InputError(
                f"{where}: ${{...}} is not filled in, since settings are saved beside the results; "
                "write the value, or let the shell fill it in: key=$NAME"
            )
        if LOGIN.search(text):
            raise InputError(f"{where}: a URL with a login in it would be saved; leave the part before @ out")
        if UNPRINTABLE.search(text):
            raise InputError(f"{where}: {text!a} holds characters that cannot be printed; rename what it names")


def _texts(tree: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, dict):
        for name, value in tree.items():
            yield from _texts(str(name), key)
            yield from _texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _texts(value, key)
