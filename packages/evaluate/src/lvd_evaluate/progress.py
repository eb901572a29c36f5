"""Progress with rate and remaining time: a bar on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY = 10.0  # seconds
logger = logging.getLogger(__name__)


@contextmanager
def track(title: str, total: int, unit: str, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield `advance(count)`; `done` of `total` were finished by an earlier run and do not enter the rate."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":  # such a terminal would show a bar at its end only
        yield _plain_lines(title, total, unit, done)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} " + unit),
        TextColumn("{task.fields[rate]:.1f}/s"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, completed=done, rate=0.0)
        start = time.perf_counter()
        fresh = 0

        def advance(count: int) -> None:
            nonlocal fresh
            fresh += count
            bar.update(task, advance=count, rate=fresh / max(time.perf_counter() - start, 1e-9))

        yield advance


def _plain_lines(title: str, total: int, unit: str, done: int) -> Callable[[int], None]:
    start = last = time.perf_counter()
    fresh = 0

    def advance(count: int) -> None:
        nonlocal fresh, last
        fresh += count
        now = time.perf_counter()
        if now - last < LINE_EVERY:
            return
        last = now
        rate = fresh / (now - start)
        left = (total - done - fresh) / rate
        logger.info("%s: %d/%d %s, %.1f/s, %.0f s left", title, done + fresh, total, unit, rate, left)

    return advance
