"""Running a function over shards of work: in this process, or in several. Results come back in the shards' order."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from types import TracebackType
from typing import Protocol, TypeVar

from lvd_curate.errors import InputError

Shard = TypeVar("Shard")
Result = TypeVar("Result")


class Executor(Protocol):
    """`map` is all a stage needs: the same function, the same shards, the same results, wherever they run."""

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) for every shard, in order."""
        ...


class InlineExecutor:
    """One shard after another in this process: for tests, debuggers and a single core."""

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) for every shard, in order."""
        return map(function, shards)


class ProcessExecutor:
    """Freshly spawned worker processes, started at the first shard and kept until the end of the `with` block."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "ProcessExecutor":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=kind is None, cancel_futures=True)

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) for every shard, in order; the function must be importable by name.

        Raises InputError when a worker is killed from outside, which is nearly always the system running out of memory.
        """
        if not shards:
            return
        if self.pool is None:
            self.pool = ProcessPoolExecutor(
                self.workers, mp_context=multiprocessing.get_context("spawn"), initializer=follow_parent
            )
        try:
            yield from self.pool.map(function, shards)
        except BrokenProcessPool:
            raise InputError(
                "a worker process was killed, most likely for want of memory; what is finished is kept: "
                f"start the same command again with execution.workers={max(1, self.workers // 2)}"
            ) from None


def follow_parent() -> None:
    """Make a worker end with its parent, however that ends, and quietly on Ctrl-C."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
