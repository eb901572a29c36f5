"""Run the code blocks of pages of the docs, in their order, in an empty folder.

    python scripts/run_docs.py docs/index.md docs/how-to/distil.md

A `bash` or `python` block is run unless the line before it says what it needs, `<!-- needs: gpu -->`: one or more of
gpu, network and data (files of the reader's own), with commas. A block with a title, ```yaml title="recipe.yaml"```, is
written to that file first. The first block that fails ends a page; the exit code says whether there was one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"(?:^<!-- needs: (?P<needs>[a-z, ]+) -->\n)?"
    r"^```(?P<language>bash|python|yaml)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
RUNNERS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    title: str | None
    needs: tuple[str, ...]
    line: int


def main() -> int:
    """Run every page that is named."""
    pages = [Path(word) for word in sys.argv[1:]]
    if not pages:
        print(__doc__)
        return 2
    succeeded = [run_page(page) for page in pages]
    return int(not all(succeeded))


def list_blocks(text: str) -> list[Block]:
    """Blocks of a page in bash, Python and YAML."""
    blocks = []
    for found in BLOCK.finditer(text):
        needs = tuple(filter(None, (found["needs"] or "").replace(" ", "").split(",")))
        line = text.count("\n", 0, found.start("language")) + 1
        blocks.append(Block(found["language"], found["text"], found["title"], needs, line))
    return blocks


def run_page(page: Path) -> bool:
    """Run a page's blocks in a folder of their own, beside the repository's packages; tell whether all succeeded."""
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:
        for name in ("packages", "pretrain"):
            (Path(folder) / name).symlink_to(REPOSITORY / name)
        for block in list_blocks(page.read_text(encoding="utf-8")):
            if block.title:
                (Path(folder) / block.title).write_text(block.text, encoding="utf-8")
            if block.needs or block.language not in RUNNERS:
                continue
            if not run_block(block, page, Path(folder)):
                return False
    return True


def run_block(block: Block, page: Path, folder: Path) -> bool:
    """Run one block; its output is shown where it fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    began = time.monotonic()
    done = subprocess.run(
        [*RUNNERS[block.language], block.text],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    failed = done.returncode != 0
    print(f"{page}:{block.line}: {'FAILED' if failed else 'ran'} in {time.monotonic() - began:.1f} s", flush=True)
    if failed:
        print(done.stdout)
    return not failed


if __name__ == "__main__":
    sys.exit(main())
