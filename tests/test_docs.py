"""The docs against the code: settings exist, defaults hold, links lead somewhere, commands have the options shown."""

from __future__ import annotations

import importlib
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*DOCS, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FILES = {"csv", "html", "json", "jsonl", "md", "npy", "npz", "parquet", "png", "pth", "py", "safetensors", "yaml"}
CHOICES = {"protocol", "preset"}  # named with the value that is not the default

CODE = re.compile(r"```.*?\n(.*?)```|`([^`\n]+)`", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
DOTTED = re.compile(r"(?<![\w/.:@-])([a-z_]+(?:\.[a-z_0-9]+)+)(?![\w/(])")


sys.path.insert(0, str(ROOT / "scripts"))
errors, moments, reference, settings = map(
    importlib.import_module, ("errors_in_code", "errors_by_moment", "reference_pages", "settings_in_code")
)
SETTINGS = {tool: {setting.key: setting for setting in settings.list_settings(tool)} for tool in settings.TOOLS}
KEYS_OF = {tool: settings.list_keys(tool) for tool in settings.TOOLS}
KEYS = set().union(*KEYS_OF.values())
SECTIONS = {key.split(".")[0] for key in KEYS if "." in key}
MAPPINGS = {key for tool in SETTINGS.values() for key, setting in tool.items() if setting.type.startswith("dict")}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def list_code(text: str) -> list[str]:
    return [block or span for block, span in CODE.findall(text)]


def is_known(key: str) -> bool:
    return key in KEYS or any(key.startswith(f"{mapping}.") for mapping in MAPPINGS)


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "contributing"], ids=name)
def test_every_setting_that_is_named_exists(page):  # but in recipes that bring a new one
    unknown = set()
    for code in list_code(read(page)):
        for key in DOTTED.findall(code):
            if key.split(".")[0] in SECTIONS and key.rsplit(".", 1)[1] not in FILES and not is_known(key):
                unknown.add(key)
        unknown |= {key for key in re.findall(r"(?<![\w./-])([a-z_]+\.[a-z_.]+)=(?!=)", code) if not is_known(key)}
    assert not unknown


@pytest.mark.parametrize(
    ("page", "tool"), [("data", "curate"), ("training", "pretrain"), ("evaluation", "evaluate")], ids=str
)
def test_a_default_that_the_paper_stands_beside_is_the_default(page, tool):
    named: dict[str, list[str]] = {}
    for code in list_code(read(ROOT / "docs" / "understand" / f"{page}.md")):
        found = re.fullmatch(r"([a-z_]+(?:\.[a-z_]+)*)=(.*)", code)
        if found and found[1] in SETTINGS[tool]:
            named.setdefault(found[1], []).append(found[2])
    assert len(named) > 20
    wrong = {
        key: values
        for key, values in named.items()
        if key not in CHOICES and plain(SETTINGS[tool][key].default) not in map(plain, values)
    }
    assert not wrong


def plain(value: str) -> Any:
    """YAML as values, numbers like 1e-3 too, which YAML takes for text."""
    read = yaml.safe_load(value)
    return [number(item) for item in read] if isinstance(read, list) else number(read)


def number(value: Any) -> Any:
    try:
        return value if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return value


def list_anchors(page: Path) -> set[str]:
    """Names of a page's headings, as Python-Markdown gives them; of equal ones the later are numbered."""
    text, anchors = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL), set()
    for heading in HEADING.findall(text):
        words = unicodedata.normalize("NFKD", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading))
        slug = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", words).strip().lower())
        number = next(
            count for count in range(len(anchors) + 1) if (f"{slug}_{count}" if count else slug) not in anchors
        )
        anchors.add(f"{slug}_{number}" if number else slug)
    return anchors


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page):
    broken = []
    for target in LINK.findall(re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in list_anchors(place)):
            broken.append(target)
    assert not broken


def test_pages_written_from_the_code_are_not_stale():
    for file, text in reference.render_pages().items():
        assert read(ROOT / "docs" / "reference" / file) == text, "run: python scripts/reference_pages.py"


def test_every_error_line_that_is_explained_is_in_the_code():
    page = read(ROOT / "docs" / "troubleshooting.md")
    lines = re.findall(r"^\| `([^`]*…[^`]*|[^`]{30,})` \|", page, re.MULTILINE)
    assert len(lines) > 40
    texts = list(errors.list_texts())
    for line in lines:
        pieces = re.compile(".*".join(map(re.escape, line.split("…"))), re.DOTALL)
        assert any(map(pieces.search, texts)), line


@pytest.mark.parametrize("tool", settings.TOOLS)
def test_every_error_line_is_said_at_some_moment(tool):
    said = {moments.find_moment(tool, module).title for _, module in errors.list_errors(tool)}
    known = moments.read_moments()[tool]
    assert said == {moment.title for moment in known}
    package = ROOT / "packages" / tool / "src" / f"lvd_{tool}"
    modules = [module for moment in known for module in moment.modules]
    assert len(modules) == len(set(modules))
    assert not [
        module for module in modules if not (package / module).is_dir() and not (package / f"{module}.py").is_file()
    ]


def test_a_module_without_a_moment_says_where_to_write_it():
    with pytest.raises(LookupError, match=r"errors_by_moment\.yaml"):
        moments.find_moment("curate", "unheard_of.py")


def test_the_page_of_every_error_line_has_each_line_once_and_what_is_explained():
    page = moments.render_errors()
    rows = re.findall(r"^\| <code>(.*?)</code> \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) == sum(len(errors.list_errors(tool)) for tool in settings.TOOLS) > 400
    assert dict(rows)["… is compressed, so no image in it can be read alone; unpack it"].startswith(
        "tars are read in place"
    )
    assert sum(bool(told) for _, told in rows) > 40
