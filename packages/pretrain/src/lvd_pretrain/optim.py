"""AdamW groups with layer-wise decay, and clipping per module."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW

from lvd_pretrain.config import OptimConfig
from lvd_pretrain.schedules import StepValues


def layer_of(name: str, depth: int) -> int:
    """Position of a backbone parameter from the bottom: 0 for embeddings, i + 1 for block i, depth + 1 for the rest."""
    block = re.search(r"blocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    embeddings = ("pos_embed", "patch_embed", "cls_token", "mask_token", "register_tokens")
    return 0 if any(part in name for part in embeddings) else depth + 1


def parameter_groups(student: nn.ModuleDict, depth: int, config: OptimConfig) -> list[dict[str, Any]]:
    """Trainable parameters grouped by learning-rate factor, weight-decay factor and part of the model.

    Biases, norms and LayerScale are not decayed; tokens, position embedding and prototypes are, as in the released
    code.
    """
    groups: dict[tuple[float, float, str], list[Tensor]] = {}
    for name, parameter in student.named_parameters():
        if not parameter.requires_grad:
            continue
        part = "last_layer" if "last_layer" in name else "backbone" if name.startswith("backbone.") else "head"
        factor = config.layer_decay ** (depth + 1 - layer_of(name, depth)) if part == "backbone" else 1.0
        if "patch_embed" in name:
            factor *= config.patch_embed_lr
        decay = 0.0 if name.endswith(".bias") or "norm" in name or "gamma" in name else 1.0
        groups.setdefault((factor, decay, part), []).append(parameter)
    return [
        {"params": parameters, "lr_factor": factor, "decay_factor": decay, "part": part}
        for (factor, decay, part), parameters in groups.items()
    ]


def build_optimizer(student: nn.ModuleDict, depth: int, config: OptimConfig) -> AdamW:
    """AdamW over the student; learning rates and decays are set every step by `set_step_values`."""
    return AdamW(parameter_groups(student, depth, config), lr=0.0, betas=config.betas, fused=True)


def set_step_values(optimizer: torch.optim.Optimizer, values: StepValues) -> None:
    """Put this step's learning rate and weight decay into every group."""
    rates = {"backbone": values.backbone_lr, "head": values.lr, "last_layer": values.last_layer_lr}
    for group in optimizer.param_groups:
        group["lr"] = rates[group["part"]] * group["lr_factor"]
        group["weight_decay"] = values.weight_decay * group["decay_factor"]


def clip_gradients(student: nn.ModuleDict, limit: float) -> dict[str, Tensor]:
    """Clip the norm of each module on its own (a shared norm lets the heads shrink the backbone's step).

    Args:
        student: modules by name; their gradients may be sharded, then all ranks take part.
        limit: largest norm; 0 measures without clipping.

    Returns:
        Norm of the whole gradient before clipping by module name.
    """
    norms = {}
    for name, module in student.items():
        parameters = [parameter for parameter in module.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        norms[name] = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if limit:
            nn.utils.clip_grads_with_norm_(parameters, limit, norms[name])
    return norms
