"""Code blocks of the pages that a reader meets, and what stands beside them for whoever runs them.

Comments, which no reader sees, on lines of their own:

    <!-- needs: gpu, network -->   before a block: what it takes that is not at hand everywhere (NEEDS)
    <!-- page needs: time -->      what all blocks of a page take beside that
    <!-- given: corpus, run -->    what a page supposes to be there already (GIVEN)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
NEEDS = {
    "gpu": "one or more GPUs",
    "network": "a package index, a hub, other machines",
    "data": "files of the reader's own",
    "time": "minutes: run by `make docs-blocks`, not by `make test`",
}
GIVEN = {  # name: how it is made, in the page's folder; a block that begins with these very lines shares what they make
    "corpus": "curate sample-corpus corpus --images 400\n",
    "run": "curate sample-corpus corpus --images 400\n"
    "pretrain tiny data.path=corpus/pool out=runs/first optim.steps=10 optim.warmup=2\n",
    "checkout": f'cp -r "{REPOSITORY}/benchmarks" .\n',
}
EDITS = {"py", "diff"}  # a file to write, a change to make: tests/test_contributing.py applies those of its pages
LANGUAGES = {"bash", "python", "yaml", "text"} | EDITS  # text is what a program says: nothing to run
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>[\w-]*)(?: title=\"(?P<title>[^\"]+)\")?(?P<rest>.*)$"
)
COMMENT = re.compile(r"^<!-- (?P<word>needs|page needs|given): (?P<names>[a-z, ]+) -->$")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    title: str | None
    needs: tuple[str, ...]
    line: int


def list_pages() -> list[Path]:
    """Every page whose blocks a reader may try."""
    named = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "benchmarks" / "README.md"]
    return [*named, *sorted(REPOSITORY.glob("packages/*/README.md")), *sorted(REPOSITORY.glob("docs/**/*.md"))]


def list_blocks(text: str) -> list[Block]:
    """All fenced blocks of a page, in their order.

    Raises:
        ValueError: a fence that is not closed, an unknown language, or a comment that stands before no block.
    """
    blocks: list[Block] = []
    needs: tuple[str, ...] = ()
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        comment, fence = COMMENT.match(line), FENCE.match(line)
        if comment and comment["word"] == "needs":
            needs = split_names(comment["names"])
        elif fence:
            if fence["language"] not in LANGUAGES or fence["indent"] or fence["rest"]:
                raise ValueError(f"line {number}: {line!r} begins no block of {', '.join(sorted(LANGUAGES))}")
            inside = "".join(f"{inner}\n" for inner in _read_until(fence["fence"], lines, number))
            blocks.append(Block(fence["language"], inside, fence["title"], needs, number))
            needs = ()
        elif needs:
            raise ValueError(f"line {number}: what a block needs is said on the line before it")
    return blocks


def _read_until(fence: str, lines: Iterator[tuple[int, str]], start: int) -> Iterator[str]:
    for _, line in lines:
        if line.rstrip() == fence:
            return
        yield line
    raise ValueError(f"line {start}: the block is not closed")


def list_said(word: str, text: str) -> list[str]:
    """What is said of a page: by `given` or `page needs`."""
    found = (COMMENT.match(line) for line in text.splitlines())
    return [name for comment in found if comment and comment["word"] == word for name in split_names(comment["names"])]


def split_names(names: str) -> tuple[str, ...]:
    """The words of a list with commas."""
    return tuple(filter(None, names.replace(" ", "").split(",")))
