"""What a start must not wait for: libraries that only some data, a save or a report need."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PRETRAIN = Path(__file__).parents[1] / "packages/pretrain/src/lvd_pretrain"
# Opened by datasets, a stream, an exported model's card, curves: never by a first step on a folder of images.
LATER = {"datasets", "transformers", "timm", "polars", "pyarrow", "pandas", "matplotlib", "jinja2", "sklearn", "scipy"}


def imports_of_a_module(file: Path) -> Iterator[str]:
    """Top names of what importing a file imports; bodies of functions are not run then."""
    waiting: list[ast.AST] = [ast.parse(file.read_text())]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield (node.module or "").split(".")[0]
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                waiting.append(node)


@pytest.mark.parametrize("file", sorted(PRETRAIN.glob("*.py")), ids=lambda file: file.stem)
def test_a_training_imports_what_a_first_step_needs(file):
    assert not LATER & set(imports_of_a_module(file))


@pytest.mark.parametrize(
    "word", ["import datasets", "class A:\n    import datasets", "if A:\n    from datasets import B"]
)
def test_the_guard_sees_imports_that_run(tmp_path, word):
    (tmp_path / "a.py").write_text(f"import os\n{word}\ndef f():\n    import timm\n")
    assert set(imports_of_a_module(tmp_path / "a.py")) == {"os", "datasets"}
