"""How far the work is: a live bar on a terminal, a line now and then elsewhere (stderr).

Both tell images done, images per second, time left, shards, the share of bad images and the memory of all processes.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES = 10.0

Advance = Callable[[int, int], None]

logger = logging.getLogger(__name__)


@dataclass
class Count:
    """What has been done of one stage."""

    total: int
    shards: int
    started: float = field(default_factory=lambda: time.monotonic())
    rows: int = 0
    bad: int = 0
    finished: int = 0  # shards

    def add(self, rows: int, bad: int) -> None:
        """Hear of a finished shard."""
        self.rows, self.bad, self.finished = self.rows + rows, self.bad + bad, self.finished + 1

    def rate(self) -> float:
        """Return images per second so far."""
        return self.rows / max(1e-3, time.monotonic() - self.started)

    def details(self) -> str:
        """Say what a bar does not show."""
        bad = f", {100 * self.bad / max(1, self.rows):.1f} % bad" if self.bad else ""
        return f"{self.rate():.0f}/s, shard {self.finished} of {self.shards}{bad}, {memory_gigabytes():.1f} GB"


def memory_gigabytes() -> float:
    """Return the resident memory of this process and its workers."""
    total, this = 0, psutil.Process()
    for process in [this, *this.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.Error:  # it ended while we looked
            continue
    return total / 1e9


@contextmanager
def track(stage: str, total: int, shards: int) -> Iterator[Advance]:
    """Show one stage's progress; the yielded function is told of each finished shard: its images, and the bad ones."""
    from rich.console import Console

    console = Console(stderr=True)
    count = Count(total, shards)
    with track_live(stage, count, console) if console.is_interactive else track_lines(stage, count) as advance:
        yield advance


@contextmanager
def track_live(stage: str, count: Count, console: "Console") -> Iterator[Advance]:
    """Draw a bar."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[more]}"),
    )
    with Progress(*columns, TimeRemainingColumn(), TimeElapsedColumn(), console=console) as bars:
        task = bars.add_task(stage, total=count.total, more="")

        def advance(rows: int, bad: int) -> None:
            count.add(rows, bad)
            bars.update(task, advance=rows, more=count.details())

        yield advance


@contextmanager
def track_lines(stage: str, count: Count) -> Iterator[Advance]:
    """Log the end, and the way there every ten seconds."""
    spoken = count.started

    def advance(rows: int, bad: int) -> None:
        nonlocal spoken
        count.add(rows, bad)
        if time.monotonic() - spoken > SECONDS_BETWEEN_LINES and count.rows < count.total:
            spoken = time.monotonic()
            left = (count.total - count.rows) / max(1e-3, count.rate())
            logger.info("%s: %d of %d images, %s, %.0f s left", stage, count.rows, count.total, count.details(), left)

    yield advance
    seconds = time.monotonic() - count.started
    logger.info("%s: %d images in %.1f s, %s", stage, count.rows, seconds, count.details())
