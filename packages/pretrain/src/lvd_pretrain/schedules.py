"""Step-indexed schedules: each value is a pure function of the step, so resuming needs no state."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lvd_pretrain.config import PretrainConfig


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """Half a cosine from `start` at step 0 to `end` at step `steps`."""
    progress = min(step / steps, 1.0) if steps > 0 else 1.0
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * progress))


def linear(step: int, steps: int, start: float, end: float) -> float:
    """A straight line from `start` at step 0 to `end` at step `steps`, constant after."""
    return end if step >= steps else start + (end - start) * step / steps


@dataclass(frozen=True)
class StepValues:
    """Everything that changes with the step."""

    lr: float
    backbone_lr: float
    last_layer_lr: float
    weight_decay: float
    momentum: float
    temperature: float


@dataclass(frozen=True)
class Schedules:
    """The schedules of a run (DINOv2's ssl configuration), `schedules(step) -> StepValues`."""

    config: PretrainConfig
    global_batch: int

    def __call__(self, step: int) -> StepValues:
        """Values in force at `step`, counted from 0."""
        optim, teacher = self.config.optim, self.config.teacher
        peak = optim.base_lr * math.sqrt(self.global_batch / 1024)
        if step < optim.warmup:
            lr = linear(step, optim.warmup - 1, 0.0, peak)  # step 0 runs at 0, as in the released code
        else:
            lr = cosine(step - optim.warmup, optim.steps - optim.warmup, peak, optim.min_lr)
        return StepValues(
            lr=lr,
            backbone_lr=0.0 if step < self.config.init.freeze_backbone_steps else lr,
            last_layer_lr=0.0 if step < optim.freeze_last_layer else lr,
            weight_decay=cosine(step, optim.steps, *optim.weight_decay),
            momentum=cosine(step, optim.steps, *teacher.momentum),
            temperature=linear(step, teacher.temperature_warmup, *teacher.temperature),
        )
