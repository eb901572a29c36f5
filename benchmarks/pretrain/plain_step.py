"""The same training step written plainly, our oracle: `python -m benchmarks.pretrain.plain_step --precision bf16`.

Weights, heads and the formulas of the losses are those of our_step.py. Plain are: a forward of its own for each crop
list, stochastic depth that computes every sample's branch and multiplies the dropped ones by 0, all tokens through the
last block, whole [tokens, prototypes] matrices, an optimizer, a clipping and an average that go tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from benchmarks.pretrain.our_step import main
from benchmarks.pretrain.step_work import StepWork
from torch import Tensor, nn

from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.losses import dino_loss, ibot_loss, koleo_loss
from lvd_pretrain.method import SelfDistillation, Views
from lvd_pretrain.optim import build_optimizer, set_step_values
from lvd_pretrain.schedules import Schedules
from lvd_pretrain.sinkhorn import sinkhorn_knopp
from lvd_pretrain.vit import Block, Mlp, VisionTransformer


def drop_samples(branch: Tensor, rate: float) -> Tensor:
    """Stochastic depth as it is usually written: [B, N, D], each sample kept with probability 1 - rate."""
    kept = torch.rand(len(branch), 1, 1, device=branch.device) >= rate
    return branch * kept / (1 - rate)


def attend(block: Block, x: Tensor) -> Tensor:
    """Self-attention, [B, N, D] -> [B, N, D]."""
    heads = block.attn.qkv(x).unflatten(2, (3, block.attn.heads, -1)).permute(2, 0, 3, 1, 4)  # [3, B, heads, N, d]
    return block.attn.proj(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


def feed_forward(block: Block, x: Tensor) -> Tensor:
    """Linear, GELU, Linear, [B, N, D] -> [B, N, D]."""
    assert isinstance(block.mlp, Mlp), "the recipe's"
    return block.mlp.fc2(F.gelu(block.mlp.fc1(x)))


def backbone_tokens(model: nn.ModuleDict, images: Tensor, masks: Tensor | None = None) -> Tensor:
    """Normed tokens of one crop list, cls first, [B, 1 + N, D]."""
    backbone = model["backbone"]
    assert isinstance(backbone, VisionTransformer)
    x = backbone.embed(images, masks)
    for block in backbone.blocks:
        assert isinstance(block, Block)
        rate = block.drop_path if block.training else 0.0
        x = x + drop_samples(block.ls1(attend(block, block.norm1(x))), rate)
        x = x + drop_samples(block.ls2(feed_forward(block, block.norm2(x))), rate)
    return backbone.norm(x.float())


def compute_losses(method: SelfDistillation, views: Views, temperature: float) -> list[Tensor]:
    """The four weighted terms."""
    config, batch = method.config, len(views.global_crops) // 2
    student, teacher, sharp = method.student, method.teacher, config.teacher.student_temperature
    with torch.no_grad():
        tokens = backbone_tokens(teacher, views.global_crops)
        iterations = config.teacher.sinkhorn_iterations
        cls_targets = sinkhorn_knopp(teacher["dino_head"](tokens[:, 0]).dense(), temperature, iterations)
        patch_logits = teacher["ibot_head"](tokens[:, 1:][views.masks]).dense()
        patch_targets = sinkhorn_knopp(patch_logits, temperature, iterations)
    large = backbone_tokens(student, views.global_crops, views.masks)
    small = backbone_tokens(student, views.local_crops)
    cls_logits = torch.cat([student["dino_head"](part[:, 0]).dense() for part in (large, small)])
    dino = dino_loss(cls_targets.unflatten(0, (2, batch)), cls_logits.unflatten(0, (-1, batch)), sharp)
    patch_logits = student["ibot_head"](large[:, 1:][views.masks]).dense()
    ibot = ibot_loss(patch_targets, patch_logits, views.masked_weights, 2 * batch, sharp)
    koleo = torch.stack([koleo_loss(view) for view in large[:, 0].chunk(2)]).sum()
    return [*(config.loss.dino * term for term in dino), config.loss.ibot * ibot, config.loss.koleo * koleo]


def clip_one_by_one(module: nn.Module, limit: float) -> None:
    """Scale a module's gradients down to a common norm of `limit`."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    for gradient in gradients:
        gradient.mul_((limit / (norm + 1e-6)).clamp_max(1))


def build_step(
    work: StepWork, config: PretrainConfig, method: SelfDistillation, views: Views
) -> Callable[[int], float]:
    """Forward, backward, clip, step, average."""
    optimizer = build_optimizer(method.student, config.model.dims[1], config.optim)
    for group in optimizer.param_groups:
        group.update(fused=False, foreach=False)
    schedules = Schedules(config, work.batch)

    def step(number: int) -> float:
        values = schedules(number)
        set_step_values(optimizer, values)
        torch.manual_seed(number)
        with torch.autocast(work.device, dtype=torch.bfloat16, enabled=work.precision == "bf16"):
            loss = torch.stack(compute_losses(method, views, values.temperature)).sum()
        optimizer.zero_grad()
        loss.backward()
        for module in method.student.values():
            clip_one_by_one(module, config.optim.clip)
        optimizer.step()
        with torch.no_grad():
            for average, new in zip(method.average.parameters(), method.student.parameters(), strict=True):
                average.lerp_(new, 1 - values.momentum)
        return loss.item()

    return step


if __name__ == "__main__":
    main(build_step)
