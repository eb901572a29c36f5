"""The recipes of docs/contributing, applied to a copy: their tests pass, and the import floors and the linter, too."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs" / "contributing").glob("add-*.md"))
BLOCK = re.compile(r'^```(?P<kind>py|diff) title="(?P<path>[^"]+)"\n(?P<text>.*?)^```$', re.DOTALL | re.MULTILINE)
FEWER_THAN = 40  # lines that one writes, blank ones left out
TOOLS = Path(sys.executable).parent


class Edit(NamedTuple):
    """A new file, or what is to be changed in one."""

    path: str
    kind: str  # py: the whole file; diff: hunks between lines of @@
    text: str

    def written(self) -> list[str]:
        """The lines that a contributor writes."""
        lines = self.text.splitlines()
        added = [line[1:] for line in lines if line.startswith("+")] if self.kind == "diff" else lines
        return [line for line in added if line.strip()]

    def apply(self, folder: Path) -> None:
        """Do it in a copy of the repository."""
        file = folder / self.path
        if self.kind == "py":
            assert not file.exists()
            file.write_text(self.text, encoding="utf-8")
            return
        content = file.read_text(encoding="utf-8")
        for hunk in re.split(r"^@@\n", self.text, flags=re.MULTILINE):
            before, after = (join(hunk, without) for without in "+-")
            assert content.count(before) == 1, f"{self.path} has {content.count(before)} times:\n{before}"
            content = content.replace(before, after)
        file.write_text(content, encoding="utf-8")


def join(hunk: str, without: str) -> str:
    """A hunk's text as it is before (without +) or after (without -), less the end of its last line."""
    return "\n".join(line[1:] for line in hunk.splitlines() if not line.startswith(without))


def read_edits(page: Path) -> Iterator[Edit]:
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield Edit(found["path"], found["kind"], found["text"])


def run(folder: Path, *words: str) -> str:
    """Run a tool in the copy, which stands before the installed packages; return what it says where it fails."""
    sources = [str(folder / f"packages/{name}/src") for name in ("curate", "pretrain", "evaluate")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sources), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of packages and tests with all recipes applied: they may not be in each other's way."""
    folder = tmp_path_factory.mktemp("extended")
    left_out = shutil.ignore_patterns("__pycache__", "test_*", "golden", "node_modules")
    for name in ("packages", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=left_out)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for page in PAGES:
        for edit in read_edits(page):
            edit.apply(folder)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_recipe_is_short_and_brings_a_test(page: Path) -> None:
    edits = list(read_edits(page))
    assert sum(len(edit.written()) for edit in edits) < FEWER_THAN
    assert edits[-1].path.startswith("tests/")


def test_there_is_a_recipe_for_each_of_the_four() -> None:
    assert [page.stem for page in PAGES] == ["add-a-loss", "add-a-probe", "add-a-stage", "add-an-encoder"]


def test_the_tests_of_all_recipes_pass(extended: Path) -> None:
    tests = [edit.path for page in PAGES for edit in read_edits(page) if edit.path.startswith("tests/")]
    assert run(extended, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests) == ""


def test_the_house_stands_with_them(extended: Path) -> None:
    assert run(extended, str(TOOLS / "lint-imports"), "--no-cache") == ""
    assert run(extended, str(TOOLS / "ruff"), "check", "--no-cache", ".") == ""
    assert run(extended, str(TOOLS / "ruff"), "format", "--no-cache", "--check", ".") == ""


@pytest.mark.slow
def test_the_types_stand_with_them(extended: Path) -> None:
    if (ROOT / ".mypy_cache").is_dir():  # seconds in place of a minute: nothing else has changed
        shutil.copytree(ROOT / ".mypy_cache", extended / ".mypy_cache")
    packages = [word for name in ("curate", "pretrain", "evaluate") for word in ("-p", f"lvd_{name}")]
    assert run(extended, str(TOOLS / "mypy"), *packages) == ""
