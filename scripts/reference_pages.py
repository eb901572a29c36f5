"""Write the pages of docs/reference/ that follow from the code: every setting, every command.

    python scripts/reference_pages.py          # write them
    python scripts/reference_pages.py --check  # exit code 1 if one of them is stale

Settings come from the dataclasses of each `config`: the annotation is the type, the comment beside a field is its unit
and origin. Commands come from the typer applications themselves.
"""

from __future__ import annotations

import ast
import html
import importlib
import inspect
import io
import sys
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

from typer.models import OptionInfo

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = REPOSITORY / "docs" / "reference"
TOOLS = {  # the dataclass that holds all settings of a tool
    "curate": ("lvd_curate.recipes", "BuildConfig"),
    "pretrain": ("lvd_pretrain.config", "PretrainConfig"),
    "evaluate": ("lvd_evaluate.config", "EvaluateConfig"),
}
WRITTEN_BY = "<!-- written by scripts/reference_pages.py: change the code, not this page -->"


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


def main() -> int:
    """Write the pages, or say which are stale."""
    check, stale = "--check" in sys.argv[1:], []
    for name, text in render_pages().items():
        page = PAGES / name
        if not page.is_file() or page.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                page.parent.mkdir(parents=True, exist_ok=True)
                page.write_text(text, encoding="utf-8")
    print(f"{'stale' if check else 'written'}: {', '.join(stale) or 'none'}")
    return int(check and bool(stale))


def render_pages() -> dict[str, str]:
    """File name -> content of every generated page."""
    pages = {f"{tool}-config.md": render_settings(tool) for tool in TOOLS}
    return pages | {"cli.md": render_commands(), "results-rows.md": render_rows()}


def list_settings(tool: str) -> list[Setting]:
    """Every setting of a tool."""
    return [setting for section in read_sections(tool) for setting in section.settings]


def list_keys(tool: str) -> set[str]:
    """Every dotted key of a tool, sections included."""
    sections = {section.key for section in read_sections(tool)}
    return (sections | {setting.key for setting in list_settings(tool)}) - {""}


# ---- settings --------------------------------------------------------------------------------------------------------


@cache
def read_sections(tool: str) -> tuple[Section, ...]:
    """All sections of a tool, the settings that stand above them first."""
    module, name = TOOLS[tool]
    return tuple(_walk(getattr(importlib.import_module(module), name), None, ""))


def _walk(schema: type, value: Any, key: str) -> Iterator[Section]:
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
        yield from _walk(*part)


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


def render_settings(tool: str) -> str:
    """The page of all settings of one tool."""
    lines = [
        WRITTEN_BY,
        f"# Settings of {tool}",
        "",
        f"Written as `key=value` on the command line or as YAML in a recipe; [{tool}](../{tool}.md) shows both. The",
        "text beside a setting is the comment that stands beside it in the code: unit, meaning, origin of the default.",
        "",
    ]
    for section in read_sections(tool):
        if not section.settings:
            continue
        lines += [
            f"## {section.key or 'Above all sections'}",
            "",
            f"{section.about} (`{section.source}`)",
            "",
            "| setting | type | default | meaning, unit, origin |",
            "| --- | --- | --- | --- |",
        ]
        for setting in section.settings:
            cells = [code(setting.key), code(setting.type), code(setting.default), cell(setting.comment)]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def render_rows() -> str:
    """The page of the keys of results.jsonl."""
    from lvd_evaluate.scoring.results import FORMAT, Row

    (section,) = _walk(Row, None, "")
    lines = [WRITTEN_BY, "# A row of results.jsonl", "", f"{section.about} Format `{FORMAT}` (`{section.source}`).", ""]
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for key in section.settings:
        lines.append(f"| {code(key.key)} | {code(key.type)} | {code(key.default)} | {cell(key.comment)} |")
    return "\n".join([*lines, ""])


def code(text: str) -> str:
    """Code that may stand in a cell: a bar inside of backticks is read differently from one Markdown to the next."""
    return f"<code>{html.escape(text).replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def cell(text: str) -> str:
    """Text that may stand in a cell of a table."""
    return text.replace("|", "\\|")


# ---- commands --------------------------------------------------------------------------------------------------------


class Word(NamedTuple):
    """One parameter of a command."""

    name: str  # --out, or nothing of an argument
    metavar: str
    default: str
    about: str


def render_commands() -> str:
    """The page of all commands, from the typer applications."""
    lines = [WRITTEN_BY, "# Commands", "", "What `--help` of each command says, on one page.", ""]
    for tool in TOOLS:
        application = importlib.import_module(f"lvd_{tool}.cli").app
        lines += [f"## {tool}", ""]
        if isinstance(application.info.help, str):
            lines += [plain(application.info.help), ""]
        for path, command in read_commands(tool):
            lines += [f"### {path}", ""] if path != tool else []
            words = list(read_words(command.callback))
            lines += render_command(path, command.help or command.callback.__doc__, words)
    return "\n".join(lines)


def list_commands() -> Iterator[tuple[str, list[Word]]]:
    """Every command of every tool, as it is typed, and its parameters."""
    for tool in TOOLS:
        for path, command in read_commands(tool):
            yield path, list(read_words(command.callback))


def read_commands(tool: str) -> Iterator[tuple[str, Any]]:
    """Commands of a tool, as they are typed (the tool's name alone where there is but one) and as typer holds them."""
    commands = importlib.import_module(f"lvd_{tool}.cli").app.registered_commands
    for command in commands:
        name = command.name or command.callback.__name__
        yield f"{tool} {name}" if len(commands) > 1 else tool, command


def render_command(path: str, about: str, words: list[Word]) -> list[str]:
    """What a command does, how it is written, and its options."""
    options = [word for word in words if word.name]
    lines = []
    for paragraph in inspect.cleandoc(about).split("\n\n"):
        example = paragraph.startswith("Example: ")
        lines += [f"`{plain(paragraph.removeprefix('Example: '))}`" if example else plain(paragraph), ""]
    arguments = [word.metavar for word in words if not word.name]
    lines += ["```text", " ".join([path, *(["[OPTIONS]"] if options else []), *arguments]), "```", ""]
    if options:
        lines += ["| option | default | what |", "| --- | --- | --- |"]
        for option in options:
            lines.append(f"| {code(f'{option.name} {option.metavar}')} | {option.default} | {cell(option.about)} |")
        lines.append("")
    return lines


def read_words(callback: Callable[..., None]) -> Iterator[Word]:
    """Parameters of a command's function, whose annotations carry typer's Option or Argument."""
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, told = get_args(hints[name])
        option = isinstance(told, OptionInfo)
        metavar = told.metavar or (getattr(kind, "__name__", "") if isinstance(kind, type) else "text").upper()
        given = {inspect.Parameter.empty: "required", ...: "required", None: ""}
        default = given.get(parameter.default, f"`{parameter.default}`")
        yield Word(f"--{name.replace('_', '-')}" if option else "", metavar, default, plain(told.help))


def plain(text: str | None) -> str:
    """A help text on one line."""
    return " ".join((text or "").split())


if __name__ == "__main__":
    sys.exit(main())
