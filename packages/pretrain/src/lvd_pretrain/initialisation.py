"""Initial weights of the Linear layers of backbone and heads."""

from __future__ import annotations

from torch import nn


def init_linears(module: nn.Module, std: float | None) -> None:
    """Truncated normal weights and zero biases in every Linear below `module`.

    Args:
        module: changed in place.
        std: standard deviation, 0.02 as released; None takes 1 / sqrt(inputs) per layer. In narrow networks 0.02 is so
            small that all images look alike to the teacher and self-distillation is slow to start.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            deviation = part.in_features**-0.5 if std is None else std
            nn.init.trunc_normal_(part.weight, std=deviation, a=-5 * deviation, b=5 * deviation)
            nn.init.zeros_(part.bias)
