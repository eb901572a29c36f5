"""Run a page's commands as a reader would and write what they print below each one.

    python scripts/transcript.py docs/first-hour.md

Every `bash` or `python` block that needs nothing special is run, one after the other in one empty folder, with the
commands of this environment in front of PATH, a home of its own, 80 columns and no colour. The `text` block behind it
receives its output (stdout and stderr as they come), changed by these rules and no others:

1. of a line that is written over itself the last state stays;
2. a line wider than 80 columns is folded at spaces, but for rows of tables;
3. of more than LONG lines the first and the last stay, and a line says how many were left out;
4. the last line is the time that the block took.

The page's line that begins with "Recorded" receives the date and the machine. The first block that fails ends the run
and leaves the page as it was.
"""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

from blocks_in_docs import list_blocks

COLUMNS = 80
LONG = 14  # lines
FIRST, LAST = 5, 7  # of a longer output
RUNNERS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
LINES = r"(?:(?!```).*\n)*"  # of one block
PAIR = re.compile(rf"^```(?:bash|python)\n(?P<text>{LINES})```\n\n```text\n(?P<said>{LINES})```$", re.MULTILINE)
RECORDED = re.compile(r"^Recorded .*?\.$", re.DOTALL | re.MULTILINE)


def main() -> int:
    """Record the page that is named."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    page = Path(sys.argv[1])
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="transcript-") as folder:
        said = record(text, Path(folder))
    if said is None:
        return 1
    page.write_text(write_page(text, said, tell_machine()), encoding="utf-8")
    return 0


def record(text: str, folder: Path) -> list[str] | None:
    """What each block of a page says, in their order; nothing when one of them fails."""
    home, place = folder / "home", folder / "place"
    home.mkdir()
    place.mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
    world = {"PATH": path, "HOME": str(home), "COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "dumb"}
    said = []
    for block in list_blocks(text):
        if block.needs or block.language not in RUNNERS:
            continue
        began = time.monotonic()
        done = subprocess.run(
            [*RUNNERS[block.language], block.text],
            cwd=place,
            env=world,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        output = done.stdout.decode()
        print(f"line {block.line}: code {done.returncode}, {time.monotonic() - began:.0f} s", flush=True)
        if done.returncode:
            print(output)
            return None
        said.append(trim(output, time.monotonic() - began))
    return said


def trim(output: str, seconds: float) -> str:
    """An output as the page shows it."""
    lines = [part for line in output.rstrip().split("\n") for part in fold(line.rstrip("\r").rpartition("\r")[2])]
    if len(lines) > LONG:
        lines[FIRST:-LAST] = [f"[{len(lines) - FIRST - LAST} lines]"]
    return "\n".join([*lines, f"[{seconds:.0f} s]"]) + "\n"


def fold(line: str) -> list[str]:
    """A line in pieces of at most COLUMNS characters; a table's row stays whole."""
    if line.startswith("|"):
        return [line]
    return textwrap.wrap(line, COLUMNS, break_on_hyphens=False, subsequent_indent="  ") or [""]


def write_page(text: str, said: list[str], recorded: str) -> str:
    """The page with new outputs; every command's output has its place in it already."""
    outputs = iter(said)
    pairs = list(PAIR.finditer(text))
    if len(pairs) != len(said):
        raise ValueError(f"{len(said)} blocks were run, {len(pairs)} have a text block behind them")

    def fill(found: re.Match[str]) -> str:
        start = found.start("said") - found.start()
        return found[0][:start] + next(outputs) + "```"

    return RECORDED.sub(lambda _: recorded, PAIR.sub(fill, text), count=1)


def tell_machine() -> str:
    """When and on what a page is recorded."""
    import torch

    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    gpus = f"{torch.cuda.device_count()} GPUs" if torch.cuda.is_available() else "no GPU"
    cores, software = f"{len(models)} cores of an {models[0]}", f"Python {platform.python_version()}"
    command = "`python scripts/transcript.py docs/first-hour.md`"
    load = f"{os.getloadavg()[2]:.0f} processes at work (mean of the last 15 minutes)"
    machine = f"{cores}, {gpus}, {load}; {platform.system()}, {software}, torch {torch.__version__}"
    sentence = f"Recorded {datetime.date.today()} by {command} on {machine}."
    return "\n".join(textwrap.wrap(sentence, 120, break_on_hyphens=False))


if __name__ == "__main__":
    sys.exit(main())
