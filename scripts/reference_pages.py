"""Write the pages of docs/reference/ that follow from the code: every setting, every command.

    python scripts/reference_pages.py          # write them
    python scripts/reference_pages.py --check  # exit code 1 if one of them is stale

Settings come from the dataclasses of each `config`: the annotation is the type, the comment beside a field is its unit
and origin. Commands come from the typer applications themselves.
"""

from __future__ import annotations

import html
import importlib
import inspect
import sys
from dataclasses import fields

from commands_in_code import Word, plain, read_commands, read_words
from settings_in_code import REPOSITORY, TOOLS, read_sections, walk_sections

PAGES = REPOSITORY / "docs" / "reference"
CURATE_RECIPES = {  # a command of curate takes the sections of its own recipe only
    "build-lvd, plan": "BuildConfig",
    "embed": "EmbedRecipe",
    "dedup, calibrate": "DedupRecipe",
    "retrieve": "RetrieveRecipe",
    "balance": "BalanceRecipe",
    "audit": "AuditRecipe",
}
WRITTEN_BY = "<!-- written by scripts/reference_pages.py: change the code, not this page -->"


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
    lines += render_recipes() if tool == "curate" else []
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


def render_recipes() -> list[str]:
    """Which sections each command of curate takes."""
    recipes = importlib.import_module("lvd_curate.recipes")
    lines = ["| command of curate | takes |", "| --- | --- |"]
    for commands, name in CURATE_RECIPES.items():
        taken = ", ".join(f"`{entry.name}`" for entry in fields(getattr(recipes, name)))
        lines.append(f"| `{commands}` | {taken} |")
    return [*lines, ""]


def render_rows() -> str:
    """The page of the keys of results.jsonl."""
    from lvd_evaluate.scoring.results import FORMAT, Row

    (section,) = walk_sections(Row, None, "")
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


def render_command(path: str, about: str, words: list[Word]) -> list[str]:
    """What a command does, how it is written, and its options."""
    options = [word for word in words if word.name]
    lines = []
    for paragraph in inspect.cleandoc(about).split("\n\n"):
        example = paragraph.startswith("Example: ")
        lines += [f"`{plain(paragraph.removeprefix('Example: '))}`" if example else plain(paragraph), ""]
    arguments = [f"{word.metavar}..." if "|" in word.metavar else word.metavar for word in words if not word.name]
    lines += ["```text", " ".join([path, *(["[OPTIONS]"] if options else []), *arguments]), "```", ""]
    if options:
        lines += ["| option | default | what |", "| --- | --- | --- |"]
        for option in options:
            lines.append(f"| {code(f'{option.name} {option.metavar}')} | {option.default} | {cell(option.about)} |")
        lines.append("")
    return lines


if __name__ == "__main__":
    sys.exit(main())
