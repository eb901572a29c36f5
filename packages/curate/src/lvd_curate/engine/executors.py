"""Running a function over shards of work: in this process, in several, or on a Ray cluster.

Results come back in the shards' order, the same whatever the engine. A shard that raises is tried three times; the
others go on, and at the end `ShardsFailed` names those that never worked. What the user can mend (InputError, a full
disk) stops at once.
"""

import errno
import logging
import multiprocessing
import os
import signal
import socket
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Protocol, TypeVar

from lvd_curate.errors import InputError, ShardsFailed

Shard = TypeVar("Shard")
Result = TypeVar("Result")

ATTEMPTS = 3
HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # of an OSError: trying again cannot help
AHEAD = 4  # shards per worker handed out before the first of them is back

logger = logging.getLogger(__name__)


class Executor(Protocol):
    """`map` is all a stage needs: the same function, the same shards, the same results, wherever they run."""

    workers: int

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) for every shard that works, in order; raise ShardsFailed at the end for the others."""
        ...


class InlineExecutor:
    """One shard after another in this process: for tests, debuggers and a single core."""

    workers = 1

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) for every shard that works, in order; raise ShardsFailed at the end for the others."""
        return run_all(lambda shard: run_now(function, shard), shards, ahead=1)


class ProcessExecutor:
    """Freshly spawned worker processes, started at the first shard and kept until the end of the `with` block."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "ProcessExecutor":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close(wait=kind is None)

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) for every shard that works, in order; raise ShardsFailed at the end for the others.

        The function must be importable by name. A worker that is killed takes the pool with it: what it may have been
        working on is tried again, one shard at a time, so that a shard that kills is told from those beside it.
        """
        return run_all(lambda shard: self.submit(function, shard), shards, ahead=AHEAD * self.workers)

    def submit(self, function: Callable[[Shard], Result], shard: Shard) -> "Future[Result]":
        """Hand out a shard; a pool that broke is replaced."""
        if self.pool is None:
            context = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=follow_parent)
        try:
            return self.pool.submit(attempt, function, shard)
        except BrokenProcessPool:
            self.close(wait=False)
            return self.submit(function, shard)

    def close(self, *, wait: bool) -> None:
        """End the workers."""
        if self.pool is not None:
            self.pool.shutdown(wait=wait, cancel_futures=True)
            self.pool = None


def require_answer(address: str) -> None:
    """Stop in seconds where nobody listens at HOST:PORT; Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # a word such as `auto`, which Ray understands
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"execution.ray_address={address}: no Ray cluster answers ({error})") from None


class RayExecutor:
    """Tasks on a Ray cluster: an address of one that runs, or one started here. All nodes must see the same files."""

    def __init__(self, address: str | None, workers: int, device: str) -> None:
        # Under `uv run` Ray would start every worker with `uv run`, too, and wait for environments that never come.
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        try:
            import ray
        except ImportError:
            raise InputError("execution.engine=ray needs the extra lvd-curate[ray]; or use processes") from None
        self.ray = ray
        if address:
            require_answer(address)
        cores = None if address else workers or available_cores()
        try:
            # "local": never the cluster that an environment variable happens to name
            ray.init(
                address or "local",
                num_cpus=cores,
                ignore_reinit_error=True,
                log_to_driver=False,
                include_dashboard=False,
            )
        except Exception as error:  # refused, unreachable, another version: Ray has an exception for each
            raise InputError(f"execution.ray_address={address}: no Ray cluster answers ({error})") from error
        there = ray.cluster_resources()
        self.workers = workers or int(there.get("CPU", 1))
        # A cluster with more cores than workers asked for runs whatever it is given.
        self.ahead = self.workers if self.workers < there.get("CPU", 1) else AHEAD * self.workers
        # Every task may use a GPU, so the workers share them evenly.
        self.gpus = 0.0 if device == "cpu" else min(1.0, there.get("GPU", 0) / self.workers)

    def __enter__(self) -> "RayExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.ray.shutdown()

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) for every shard that works, in order; raise ShardsFailed at the end for the others."""
        task: Any = self.ray.remote(num_cpus=1, num_gpus=self.gpus, max_retries=0)(attempt)
        return run_all(lambda shard: task.remote(function, shard).future(), shards, ahead=self.ahead)


def attempt(function: Callable[[Shard], Result], shard: Shard) -> Result:
    """Run a shard; an error carries along where it was raised, which another process would not tell."""
    try:
        return function(shard)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        error.add_note(f"{os.path.basename(last.filename)}:{last.lineno}")
        raise


def run_now(function: Callable[[Shard], Result], shard: Shard) -> "Future[Result]":
    """Run a shard here and hold what came of it."""
    future: Future[Result] = Future()
    try:
        future.set_result(attempt(function, shard))
    except Exception as error:
        future.set_exception(error)
    return future


def run_all(submit: Callable[[Any], "Future[Any]"], shards: Sequence[Any], ahead: int) -> Iterator[Any]:
    """Yield the results of all shards in order, at most `ahead` of them handed out at once; each is tried three times.

    A shard that failed is tried again alone: where one worker's death took several shards, this tells which did it.
    """
    waiting, again = deque(range(len(shards))), deque[int]()
    running: dict[Future[Any], int] = {}
    alone: Future[Any] | None = None
    results, errors, attempts = dict[int, Any](), dict[int, str](), [0] * len(shards)
    for number in range(len(shards)):
        while number not in results and number not in errors:
            if again and not running:
                chosen = again.popleft()
                alone = submit(shards[chosen])
                running[alone] = chosen
            while waiting and not again and alone is None and len(running) < ahead and waiting[0] < number + 2 * ahead:
                chosen = waiting.popleft()
                running[submit(shards[chosen])] = chosen
            for future in wait_for(running, return_when=FIRST_COMPLETED).done:
                done, error = running.pop(future), future.exception()
                if error is None:
                    results[done] = future.result()
                else:
                    stop_if_hopeless(error)
                    attempts[done] += future is alone or not isinstance(error, BrokenProcessPool)
                    if attempts[done] < ATTEMPTS:
                        logger.info("a shard of work failed and is tried again (%s)", describe(error))
                        again.append(done)
                    else:
                        errors[done] = describe(error)
                alone = None if future is alone else alone
        if number in results:
            yield results.pop(number)
    if errors:
        raise ShardsFailed(dict(sorted(errors.items())))


def stop_if_hopeless(error: BaseException) -> None:
    """Raise what no second attempt mends."""
    cause = getattr(error, "cause", None) or error  # Ray wraps what a task raised
    if isinstance(cause, InputError) or (isinstance(cause, OSError) and cause.errno in HOPELESS):
        raise cause


def describe(error: BaseException) -> str:
    """Say what went wrong in one line."""
    if isinstance(error, BrokenProcessPool):
        return "its process was killed, most likely for want of memory"
    cause = getattr(error, "cause", None) or error
    said = (str(cause).strip().splitlines() or ["no word"])[0]
    where = getattr(cause, "__notes__", [])
    return f"{type(cause).__name__}: {said}" + (f" ({where[0]})" if where else "")


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
