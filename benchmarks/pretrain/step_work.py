"""The work of one training step as all contestants are told it, and the clock they share; standard library only."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from benchmarks.turns import Meter, resident_mib


@dataclass(frozen=True, kw_only=True)
class StepWork:
    """Shapes, precision and length. The rest is the recipe `vits14`: losses, targets, schedules, masks."""

    arch: str = "vit_small"
    patch_size: int = 14
    precision: str = "fp32"  # or bf16, by autocast
    device: str = "cpu"
    batch: int = 8  # images
    global_size: int = 224  # pixels, 2 crops an image
    local_size: int = 98
    local_number: int = 8
    prototypes: int = 65536  # of each of two heads
    drop_path: float = 0.1
    steps: int = 2  # measured, after one that is not

    def words(self) -> list[str]:
        """As words of a command line."""
        return [word for name, value in asdict(self).items() for word in (f"--{name.replace('_', '-')}", str(value))]


def parse_work(words: Sequence[str] | None = None) -> StepWork:
    """The work that a command line asks for."""
    parser = argparse.ArgumentParser()
    for field in fields(StepWork):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    return StepWork(**vars(parser.parse_args(words)))


class StepClock:
    """Figures of `work.steps` steps after one to warm up; memory is counted from when the clock was made.

    `peak_mib` is what the process (on a GPU: its allocator) held at most beyond the imports: weights, optimizer state,
    activations; `step_mib` the part of it that came and went within a step.
    """

    def __init__(self, work: StepWork) -> None:
        self.work, self._empty = work, resident_mib()

    def run(self, step: Callable[[int], float], **facts: Any) -> None:
        """Warm up, measure, print one JSON object. `step` takes its number and returns the loss."""
        first = step(0)
        self.begin()
        for number in range(self.work.steps):
            step(number + 1)
        self.finish(first_loss=first, **facts)

    def begin(self) -> None:
        """The warm-up is over."""
        self._held = self._device_mib() or resident_mib() - self._empty
        self._meter = Meter()
        self._meter.__enter__()

    def finish(self, **facts: Any) -> None:
        """Print the figures, per step, with the facts of the model."""
        peak_on_device = self._device_mib()
        self._meter.__exit__()
        figures = self._meter.figures
        per_step = {name: figures[name] / self.work.steps for name in ("seconds", "cpu_seconds")}
        peak = peak_on_device or self._held + figures["peak_mib"]
        print(json.dumps({**per_step, "peak_mib": peak, "step_mib": peak - self._held, **facts}), flush=True)

    def _device_mib(self) -> float:
        """Peak on the GPU since the last call, which waits for it; 0 without one."""
        if not self.work.device.startswith("cuda"):
            return 0.0
        import torch

        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() / 2**20
        torch.cuda.reset_peak_memory_stats()
        return peak
