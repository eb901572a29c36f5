"""What each stage of a build costs: seconds, processor time and memory of this process and all its workers."""

import functools
import inspect
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

BETWEEN = "between stages"
# Where `build_lvd` and its stages call what is charged to a stage; a call inside another is charged to itself alone.
CALLS = (
    ("list", "lvd_curate.steps", "list_inputs"),
    ("screen", "lvd_curate.pipeline", "screen_inputs"),
    ("embed", "lvd_curate.pipeline", "embed_images"),
    ("deduplicate", "lvd_curate.pipeline", "find_duplicates"),
    ("decontaminate", "lvd_curate.pipeline", "find_touches"),
    ("search by hashes", "lvd_curate.copy_detection.copies", "find_hashed_pairs"),
    ("search by vectors", "lvd_curate.copy_detection.copies", "find_pairs_within"),
    ("search by vectors", "lvd_curate.copy_detection.copies", "find_pairs_between"),
    ("cluster", "lvd_curate.pipeline", "cluster_images"),
    ("k-means training", "lvd_curate.stages.cluster", "fit_on_sample"),
    ("retrieve", "lvd_curate.pipeline", "retrieve_images"),
    ("materialize", "lvd_curate.stages.materialize", "materialize"),
    ("lineage", "lvd_curate.pipeline", "build_lineage"),
    ("lineage", "lvd_curate.pipeline", "write_lineage"),
    ("report", "lvd_curate.pipeline", "choose_shown"),
    ("report", "lvd_curate.pipeline", "write_previews"),
    ("report", "lvd_curate.pipeline", "count_everything"),
    ("report", "lvd_curate.pipeline", "write_report"),
)


class StageClock(threading.Thread):
    """Charges what is used to the stage that runs; the memory is looked at once a second, which costs some itself.

    Memory is the sum of proportional set sizes: a page that processes share counts once. `peak_mib` counts mapped files
    too, which the system may drop whenever it needs the space; `held_mib` is without them.
    """

    def __init__(self, *, memory: bool = True) -> None:
        super().__init__(daemon=True)
        self.memory = memory
        self.stages = [BETWEEN]
        self.figures: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.ended = threading.Event()
        self.seen = time.perf_counter(), used_seconds()

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Charge what the block calls."""
        for stage, module, name in CALLS:
            here = import_module(module)
            setattr(here, name, self.charged(stage, getattr(here, name)))
        self.seen = time.perf_counter(), used_seconds()
        if self.memory:
            self.start()
        yield
        self.charge()
        if self.memory:
            self.ended.set()
            self.join()

    def charged(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose calls are charged to a stage; of a generator, every step."""

        @functools.wraps(function)
        def call(*words: Any, **named: Any) -> Any:
            with self.inside(stage):
                return function(*words, **named)

        @functools.wraps(function)
        def steps(*words: Any, **named: Any) -> Any:
            generator, nothing = function(*words, **named), object()
            while True:
                with self.inside(stage):
                    value = next(generator, nothing)
                if value is nothing:
                    return
                yield value

        return steps if inspect.isgeneratorfunction(function) else call

    @contextmanager
    def inside(self, stage: str) -> Iterator[None]:
        """Charge the stage around this one with what was used so far, and this one from here on."""
        self.charge()
        self.stages.append(stage)
        try:
            yield
        finally:
            self.charge()
            self.stages.pop()

    def charge(self) -> None:
        """Charge the running stage with what was used since the last time."""
        (wall, cpu), now = self.seen, (time.perf_counter(), used_seconds())
        figures, self.seen = self.figures[self.stages[-1]], now
        figures["seconds"] += now[0] - wall
        figures["cpu_seconds"] += now[1] - cpu

    def run(self) -> None:
        """Look at the memory until the end."""
        while not self.ended.wait(1.0):
            stage, (total, files) = self.stages[-1], held_kib()
            figures = self.figures[stage]
            figures["peak_mib"] = max(figures["peak_mib"], total / 1024)
            figures["held_mib"] = max(figures["held_mib"], (total - files) / 1024)


def family() -> list[psutil.Process]:
    """Return this process and its workers."""
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def used_seconds() -> float:
    """Return the processor time of this process and of its workers, ended ones too."""
    total = 0.0
    for process in family():
        try:
            used = process.cpu_times()
        except psutil.Error:  # it ended while we looked
            continue
        total += used.user + used.system + used.children_user + used.children_system
    return total


def held_kib() -> tuple[int, int]:
    """Return the memory of all processes in KiB, and how much of it are mapped files."""
    total, files = 0, 0
    for process in family():
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it ended while we looked
            continue
        sizes = {name: int(value) for name, value, *_ in (line.split() for line in lines[1:])}
        total, files = total + sizes.get("Pss:", 0), files + sizes.get("Pss_File:", 0)
    return total, files
