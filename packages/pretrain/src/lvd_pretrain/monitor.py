"""What a run says while it runs: metrics.jsonl, a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Monitor:
    """Context manager of one run's progress; on ranks other than the first it stays silent.

    Args:
        path: metrics.jsonl; lines of steps not yet done (left by a killed run) are dropped at the start.
        start: steps done before.
        steps: steps in all.
        active: whether this rank speaks.
    """

    def __init__(self, path: Path, start: int, steps: int, active: bool) -> None:
        self.path, self.start, self.steps, self.active = path, start, steps, active
        self.console = Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("pretrain"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (active and self.console.is_interactive),
        )

    def __enter__(self) -> Monitor:
        if self.active:
            _keep_lines_before(self.path, self.start)
            self.file = self.path.open("a")
        self.bar.start()
        self.task = self.bar.add_task("pretrain", total=self.steps, completed=self.start, text="")
        self.began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.bar.disable:  # before rich 14.3 a bar that was never shown ends with an empty line
            self.bar.stop()
        if self.active:
            self.file.close()

    def advance(self, done: int) -> None:
        """Steps done so far, in all."""
        self.bar.update(self.task, completed=done)

    def log(self, done: int, values: dict[str, float]) -> None:
        """One line of metrics after `done` steps."""
        if not self.active:
            return
        self.file.write(json.dumps({"step": done, **values}) + "\n")
        self.file.flush()
        text = f"loss {values['loss']:.3f}  {values['images_per_second']:.0f} images/s"
        self.bar.update(self.task, text=text)
        if not self.console.is_interactive:
            left = (time.monotonic() - self.began) / (done - self.start) * (self.steps - done)
            print(f"step {done}/{self.steps}  {text}  eta {_clock(left)}", file=sys.stderr, flush=True)

    def say(self, message: str) -> None:
        """One line that is not about progress."""
        if self.active:
            self.console.print(message, markup=False, soft_wrap=True)


def _keep_lines_before(path: Path, done: int) -> None:
    if path.exists():
        kept = [line for line in path.read_text(errors="replace").splitlines() if _step_of(line) <= done]
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text("".join(line + "\n" for line in kept))
        partial.rename(path)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return float("inf")  # the line a killed run was writing, or what a power cut left of it


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
