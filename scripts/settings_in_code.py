"""What each tool can be told, read from its dataclasses: key, type, default, and the comment that stands beside it."""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import tokenize
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
TOOLS = {  # the dataclass that holds all settings of a tool
    "curate": ("lvd_curate.recipes", "BuildConfig"),
    "pretrain": ("lvd_pretrain.config", "PretrainConfig"),
    "evaluate": ("lvd_evaluate.config", "EvaluateConfig"),
}


class Setting(NamedTuple):
    """One leaf of a tool's settings."""

    key: str
    type: str
    default: str
    comment: str


class Section(NamedTuple):
    """The settings of one dataclass, as they stand together."""

    key: str  # "" for those above all sections
    about: str
    source: str  # path from the repository's root
    settings: list[Setting]


def list_settings(tool: str) -> list[Setting]:
    """Every setting of a tool."""
    return [setting for section in read_sections(tool) for setting in section.settings]


def list_keys(tool: str) -> set[str]:
    """Every dotted key of a tool, sections included."""
    sections = {section.key for section in read_sections(tool)}
    return (sections | {setting.key for setting in list_settings(tool)}) - {""}


@cache
def read_sections(tool: str) -> tuple[Section, ...]:
    """All sections of a tool, the settings that stand above them first."""
    module, name = TOOLS[tool]
    return tuple(walk_sections(getattr(importlib.import_module(module), name), None, ""))


def walk_sections(schema: type, value: Any, key: str) -> Iterator[Section]:
    """A dataclass and those nested in it, outermost first; defaults are those of `value` where it is given."""
    source = inspect.getsourcefile(schema)
    assert source is not None
    annotations, comments = read_annotations(Path(source), schema.__name__)
    leaves, nested = [], []
    for entry in fields(schema):
        held = getattr(value, entry.name) if value is not None else _default(entry)
        dotted = f"{key}.{entry.name}".lstrip(".")
        if is_dataclass(held):
            nested.append((type(held), held, dotted))
        else:
            leaves.append(Setting(dotted, annotations[entry.name], show(held), comments[entry.name]))
    about = " ".join((inspect.getdoc(schema) or "").split())
    yield Section(key, about, str(Path(source).relative_to(REPOSITORY)), leaves)
    for part in nested:
        yield from walk_sections(*part)


def _default(entry: Field[Any]) -> Any:
    return entry.default_factory() if entry.default_factory is not MISSING else entry.default


def show(value: Any) -> str:
    """A default as it is written in a recipe or a key=value word."""
    if value is MISSING:
        return "required"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value or "''"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(show(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value) if value != {} else "{}"


def read_annotations(source: Path, name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Annotation and comment of each field of a class.

    The comment is what trails the field's lines. Lines of comment alone between two fields go on with the field above,
    unless there is none or the field below has no comment of its own: then they are its.
    """
    text = source.read_text(encoding="utf-8")
    comments = {
        token.start[0]: (token.string.lstrip("# ").rstrip(), token.line.lstrip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    tree = next(node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef) and node.name == name)
    body = [node for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    annotations, told = {}, {}
    for number, node in enumerate(body):
        field = node.target.id  # type: ignore[union-attr]
        annotations[field] = ast.unparse(node.annotation).replace(" | None", " or null")
        end = node.end_lineno or node.lineno
        trailing = [comments[line][0] for line in range(node.lineno, end + 1) if line in comments]
        above, below = _block(comments, node.lineno, -1), _block(comments, end, +1)
        takes_above = above and (number == 0 or not trailing)
        following = body[number + 1] if number + 1 < len(body) else None
        leaves_below = below and following is not None and not _has_comment(following, comments)
        told[field] = " ".join([*trailing, *(above if takes_above else []), *([] if leaves_below else below)])
    return annotations, told


def _block(comments: dict[int, tuple[str, bool]], line: int, step: int) -> list[str]:
    """Lines of comment alone that touch a field, above (step -1) or below (step +1) it."""
    found, at = [], line + step
    while at in comments and comments[at][1]:
        found.append(comments[at][0])
        at += step
    return found[::step]


def _has_comment(node: ast.AnnAssign, comments: dict[int, tuple[str, bool]]) -> bool:
    return any(line in comments for line in range(node.lineno, (node.end_lineno or node.lineno) + 1))
