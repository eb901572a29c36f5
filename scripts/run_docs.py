"""Run the code blocks of pages, each page from top to bottom in an empty folder of its own.

    python scripts/run_docs.py                                   # every page: `make docs-blocks`
    python scripts/run_docs.py docs/index.md docs/how-to/distil.md
    python scripts/run_docs.py --needs data --files FOLDER docs/evaluate.md

A `bash` or `python` block is run unless a comment before it says that it needs what is not at hand, such as
`<!-- needs: gpu -->`; --needs names what is. What the page takes for given is made first, once for all pages. A block
with a title, ```yaml title="recipe.yaml"```, is written to that file. The first block that fails ends a page; the exit
code says whether there was one.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from blocks_in_docs import EDITS, GIVEN, NEEDS, REPOSITORY, Block, list_blocks, list_pages, list_said

RUNNERS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
LIMIT = 1800  # seconds a block may take


class Runner:
    """Runs pages below one folder, which holds what pages suppose to be there.

    Args:
        place: a folder that may be filled.
        at_hand: what blocks may need (of NEEDS).
        files: folders whose files lie beside every page's own.
    """

    def __init__(self, place: Path, at_hand: Sequence[str] = ("time",), files: Sequence[Path] = ()) -> None:
        self.place, self.at_hand, self.files = place, set(at_hand), files

    def run_page(self, page: Path) -> bool:
        """Run a page's blocks; tell whether all succeeded."""
        text = page.read_text(encoding="utf-8")
        folder = Path(tempfile.mkdtemp(dir=self.place, prefix=f"{page.stem}-"))
        (folder / ".venv").symlink_to(sys.prefix)
        for source in (
            REPOSITORY / "packages",
            REPOSITORY / "pretrain",
            *(f for at in self.files for f in at.iterdir()),
        ):
            (folder / source.name).symlink_to(source)
        for name in list_said("given", text):
            shutil.copytree(self.make(name), folder, symlinks=True, dirs_exist_ok=True)
        page_needs = list_said("page needs", text)
        for block in list_blocks(text):
            if block.title and block.language not in EDITS:
                (folder / block.title).write_text(block.text, encoding="utf-8")
            run = block.language in RUNNERS and {*block.needs, *page_needs} <= self.at_hand
            if run and not run_block(self.share(block, folder), str(page), folder):
                return False
        return True

    def share(self, block: Block, folder: Path) -> Block:
        """What is left to run of a block after its first lines, where these make what is given elsewhere."""
        for name in sorted(GIVEN, key=lambda name: -len(GIVEN[name])):
            if block.text.startswith(GIVEN[name]):
                shutil.copytree(self.make(name), folder, symlinks=True, dirs_exist_ok=True)
                return block._replace(text=block.text.removeprefix(GIVEN[name]))
        return block

    def make(self, name: str) -> Path:
        """The folder that holds what is given under a name."""
        folder = self.place / "given" / name
        if not folder.is_dir():
            folder.mkdir(parents=True)
            if not run_block(Block("bash", GIVEN[name], None, (), 0), f"given {name}", folder):
                raise RuntimeError(f"what pages take for given could not be made: {name}")
        return folder


def run_block(block: Block, page: str, folder: Path) -> bool:
    """Run one block; its output is shown where it fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    began, used = time.monotonic(), processor_seconds()
    done = subprocess.run(
        [*RUNNERS[block.language], block.text],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    failed = done.returncode != 0
    took = f"{time.monotonic() - began:.1f} s, {processor_seconds() - used:.1f} s of processor time"
    print(f"{page}:{block.line}: {'FAILED' if failed else 'ran'} in {took}", flush=True)
    if failed:
        print(done.stdout)
    return not failed


def processor_seconds() -> float:
    """What all children took so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    """Run every page that is named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--needs", nargs="+", choices=sorted(NEEDS), default=[], help="what is at hand, beside time")
    parser.add_argument("--files", nargs="+", type=Path, default=[], help="folders whose files the pages find")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="docs-") as place:
        runner = Runner(Path(place), ["time", *words.needs], [folder.resolve() for folder in words.files])
        succeeded = [runner.run_page(page) for page in words.pages or list_pages()]
    return int(not all(succeeded))


if __name__ == "__main__":
    sys.exit(main())
