"""What the tools can say, read from their code: error lines, and every other text; "…" stands for a value."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RAISED = {"FloatingPointError", "InputError", "UnusableImage", "fail", "require", "require_positive", "_stop"}


def list_errors(tool: str) -> list[tuple[str, str]]:
    """(line, module) of every error a user of the tool may see, by module."""
    package = REPOSITORY / "packages" / tool / "src" / f"lvd_{tool}"
    found = {}
    for source, tree in parse(package):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RAISED:
                for line in filter(is_telling, map(render, node.args)):
                    found.setdefault(line, str(source.relative_to(package)))
    return sorted(found.items(), key=lambda pair: (pair[1], pair[0]))


def list_texts() -> Iterator[str]:
    """Every text in the code of the packages."""
    for _, tree in parse(REPOSITORY / "packages"):
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                yield render(node)


@cache
def parse(folder: Path) -> tuple[tuple[Path, ast.Module], ...]:
    """Every module below a folder."""
    return tuple((file, ast.parse(file.read_text(encoding="utf-8"))) for file in sorted(folder.rglob("*.py")))


def render(node: ast.expr) -> str:
    """A text as it stands in the code, on one line, "…" where a value is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(render(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return "…"


def is_telling(line: str) -> bool:
    """Whether a text says more than a value and a sign or two."""
    return len(re.findall(r"[a-z]{2,}", line)) > 1
