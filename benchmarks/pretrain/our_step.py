"""One training step as `pretrain` runs it: `python -m benchmarks.pretrain.our_step --precision bf16`."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from benchmarks.pretrain.step_work import StepClock, StepWork, parse_work

from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.launch import set_matrix_precision
from lvd_pretrain.masks import batch_masks, masked_patches
from lvd_pretrain.method import SelfDistillation, Views
from lvd_pretrain.optim import build_optimizer, clip_gradients, set_step_values
from lvd_pretrain.recipes import build_config, find_recipe
from lvd_pretrain.schedules import Schedules
from lvd_pretrain.train import step_seed


def build_work(work: StepWork) -> tuple[PretrainConfig, SelfDistillation, Views]:
    """Settings, student and teacher with their first weights, and one batch, the same in every process."""
    words = {
        **{f"model.{name}": getattr(work, name) for name in ("arch", "patch_size", "drop_path")},
        **{f"crops.{name}": getattr(work, name) for name in ("global_size", "local_size", "local_number")},
        **{f"{head}.prototypes": work.prototypes for head in ("dino_head", "ibot_head")},
        "precision": work.precision,
        "optim.batch_size": work.batch,
    }
    config = build_config(find_recipe("vits14"), [f"{name}={value}" for name, value in words.items()])
    torch.manual_seed(0)
    method = SelfDistillation(config).to(work.device).train()
    grid = work.global_size // work.patch_size
    masks = batch_masks(2 * work.batch, grid, config.masks.probability, config.masks.ratio, [0, 0])
    on_device = [torch.from_numpy(part).to(work.device) for part in (masks, *masked_patches(masks))]
    crops = (waves(2 * work.batch, work.global_size), waves(work.local_number * work.batch, work.local_size))
    return config, method, Views(*(images.to(work.device) for images in crops), *on_device)


def waves(count: int, size: int) -> torch.Tensor:
    """Normalised images with power at all scales, [count, 3, size, size]."""
    octaves = [F.interpolate(torch.randn(count, 3, side, side), size, mode="bilinear") for side in (3, 9, 27)]
    return torch.stack([*octaves, torch.randn(count, 3, size, size)]).mean(0) * 2


def facts(method: SelfDistillation, views: Views) -> dict[str, int]:
    """What makes the work of two contestants the same."""
    patch = method.config.model.patch_size
    sizes = [(len(crops), (crops.shape[-1] // patch) ** 2 + 1) for crops in (views.global_crops, views.local_crops)]
    return {
        "parameters": sum(parameter.numel() for parameter in method.student.parameters()),
        "tokens": sum(count * tokens for count, tokens in sizes),
        "masked": len(views.masked),
    }


def build_step(
    work: StepWork, config: PretrainConfig, method: SelfDistillation, views: Views
) -> Callable[[int], float]:
    """The part of train.py's loop between a batch and the next."""
    set_matrix_precision(torch.device(work.device), work.precision)
    optimizer = build_optimizer(method.student, config.model.dims[1], config.optim)
    schedules = Schedules(config, work.batch)

    def step(number: int) -> float:
        values = schedules(number)
        set_step_values(optimizer, values)
        torch.manual_seed(step_seed(config.seed, number, 0))
        with torch.autocast(work.device, dtype=torch.bfloat16, enabled=work.precision == "bf16"):
            losses = method(views, values.temperature)
        loss = torch.stack(list(losses.values())).sum()
        loss.backward()
        clip_gradients(method.student, config.optim.clip)
        optimizer.step()
        method.update_teacher(values.momentum)
        optimizer.zero_grad()
        return loss.item()

    return step


def main(build_step: Callable[..., Callable[[int], float]]) -> None:
    """Run a contestant's step on the work of the command line; the clock is there before the weights are."""
    asked = parse_work()
    clock = StepClock(asked)
    config, method, views = build_work(asked)
    clock.run(build_step(asked, config, method, views), **facts(method, views))


if __name__ == "__main__":
    main(build_step)
