"""How far the work is: a live bar with rate and time left on a terminal, a line now and then elsewhere (stderr)."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 10.0

logger = logging.getLogger(__name__)


@contextmanager
def track(stage: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show one stage's progress; the yielded function is told how many more images are done."""
    from rich.console import Console

    console = Console(stderr=True)
    with track_live(stage, total, console) if console.is_terminal else track_lines(stage, total) as advance:
        yield advance


@contextmanager
def track_live(stage: str, total: int, console: object) -> Iterator[Callable[[int], None]]:
    """Draw a bar."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    assert isinstance(console, Console)
    rate = TextColumn("{task.fields[rate]:.0f}/s")
    columns = (TextColumn("{task.description:14}"), BarColumn(), MofNCompleteColumn(), rate)
    started = time.monotonic()
    with Progress(*columns, TimeRemainingColumn(), TimeElapsedColumn(), console=console) as bars:
        task = bars.add_task(stage, total=total, rate=0.0)

        def advance(count: int) -> None:
            done = bars.tasks[0].completed + count
            bars.update(task, advance=count, rate=done / max(1e-3, time.monotonic() - started))

        yield advance


@contextmanager
def track_lines(stage: str, total: int) -> Iterator[Callable[[int], None]]:
    """Log the end, and the way there every ten seconds."""
    started = spoken = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, spoken
        done += count
        if time.monotonic() - spoken > SECONDS_BETWEEN_LINES and done < total:
            spoken = time.monotonic()
            rate = done / (spoken - started)
            logger.info("%s: %d of %d images, %.0f/s, %.0f s left", stage, done, total, rate, (total - done) / rate)

    yield advance
    seconds = time.monotonic() - started
    logger.info("%s: %d images in %.1f s, %.0f/s", stage, done, seconds, done / max(1e-3, seconds))
