"""Training steps on a device as `pretrain` runs them, one after the other without waiting: a contestant of gpu_step.

    python -m benchmarks.pretrain.device_step --device cuda --precision bf16 --arch vit_large --compile

Words beside those of step_work.py: --compile, --attention KERNEL, and --parts, which gives shares in place of a rate.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence

import torch
from benchmarks.pretrain.our_step import build_work, facts
from benchmarks.pretrain.step_parts import REST, Parts
from benchmarks.pretrain.step_work import StepClock, StepWork, parse_work
from torch import Tensor

from lvd_pretrain.compilation import compile_blocks
from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.flops import step_flops
from lvd_pretrain.launch import set_matrix_precision
from lvd_pretrain.method import SelfDistillation, Views
from lvd_pretrain.optim import build_optimizer, clip_gradients, set_step_values
from lvd_pretrain.schedules import Schedules
from lvd_pretrain.train import step_seed
from lvd_pretrain.vit import Block
from lvd_pretrain.watch import Watch

WARM_UP = 3  # steps: the first compiles and chooses kernels, the second grows the allocator's pools to their size


def main(words: Sequence[str] | None = None) -> None:
    """Print one JSON object: the clock's figures, or with --parts the shares."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--parts", action="store_true")
    given, rest = parser.parse_known_args(words)
    work = parse_work(rest)
    device = torch.device(work.device)
    set_matrix_precision(device, work.precision)
    rate = matrix_rate(device)
    clock = StepClock(work)
    config, method, views = build_work(work)
    for block in (module for module in method.modules() if isinstance(module, Block)):
        block.attn.kernel = given.attention
    if given.compile:
        compile_blocks(method, device)
    parts = Parts(device)
    if given.parts:
        parts.watch(method)
    step = build_step(work, config, method, views, parts)
    first, *_ = [step(number).item() for number in range(WARM_UP)]
    parts.marks.clear()
    if given.parts:
        for number in range(work.steps):
            step(WARM_UP + number)
        print(json.dumps({"shares": parts.shares()}), flush=True)
        return
    clock.begin()
    for number in range(work.steps):
        step(WARM_UP + number)
    reserved = torch.cuda.max_memory_reserved() / 2**20 if device.type == "cuda" else 0.0
    flops = sum(step_flops(config).values())
    clock.finish(first_loss=first, flops=flops, matrix_rate=rate, reserved_mib=reserved, **facts(method, views))


def build_step(
    work: StepWork, config: PretrainConfig, method: SelfDistillation, views: Views, parts: Parts
) -> Callable[[int], Tensor]:
    """train.py's loop between two logging steps; the parts outside of modules are marked."""
    optimizer = build_optimizer(method.student, config.model.dims[1], config.optim)
    schedules, watch = Schedules(config, work.batch), Watch(config, torch.device(work.device))
    method.observe = watch.observe

    def step(number: int) -> Tensor:
        parts.base(REST)
        values = schedules(number)
        set_step_values(optimizer, values)
        torch.manual_seed(step_seed(config.seed, number, 0))
        with torch.autocast(work.device, dtype=torch.bfloat16, enabled=work.precision == "bf16"):
            losses = method(views, values.temperature)
        parts.base("losses")  # their backward pass comes first
        loss = torch.stack(list(losses.values())).sum()
        loss.backward()
        parts.base("clipping")
        norms = clip_gradients(method.student, config.optim.clip)
        watch.check(losses, norms, number, logging=False)
        parts.base("optimizer")
        optimizer.step()
        parts.base("average")
        method.update_teacher(values.momentum)
        optimizer.zero_grad()
        parts.base("between steps")
        return loss.detach()

    return step


def matrix_rate(device: torch.device) -> float:
    """Operations per second of a bf16 product of random square matrices: the ceiling steps are measured against."""
    side, rounds = (8192, 10) if device.type == "cuda" else (512, 3)
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

    def seconds() -> float:
        began = time.perf_counter()
        for _ in range(rounds):
            product = one @ other
        float(product[0, 0])  # waits for the device
        return time.perf_counter() - began

    seconds()  # chooses the kernel
    return 2 * side**3 * rounds / seconds()


if __name__ == "__main__":
    main()
