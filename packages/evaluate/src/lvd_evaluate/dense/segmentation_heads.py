"""Linear segmentation heads: batch norm and a 1x1 convolution on patch tokens, many of them on one backbone pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvd_evaluate.contracts import VOID

MOMENTUM = 0.1  # of the running statistics
WARMUP_START = 1e-6  # share of the learning rate at step 0
MAX_VALUES = 2**26  # logits at full size held at once: bounds the memory, changes no number beyond rounding


class SegmentationHeads(nn.Module):
    """H heads BatchNorm(C) -> 1x1 convolution, each with parameters of its own; equal to H modules trained apart.

    All see the same tokens, so the statistics of the norm are one; its affine part is folded into the convolution, and
    one matrix product gives the logits of every head.
    """

    def __init__(self, num_heads: int, width: int, num_classes: int, init_std: float, seed: int) -> None:
        """Every head starts from the same normal weights [K, C], drawn from `seed`, and zero biases."""
        super().__init__()
        drawn = torch.randn(num_classes, width, generator=torch.Generator().manual_seed(seed)) * init_std
        self.scales = nn.ParameterList([torch.ones(width) for _ in range(num_heads)])  # [C] each
        self.shifts = nn.ParameterList([torch.zeros(width) for _ in range(num_heads)])
        self.weights = nn.ParameterList([drawn.clone() for _ in range(num_heads)])  # [K, C] each
        self.biases = nn.ParameterList([torch.zeros(num_classes) for _ in range(num_heads)])  # [K] each
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, tokens: Tensor, heads: Sequence[int] | None = None) -> Tensor:
        """Logits [B, H, K, h, w] of float32 patch tokens [B, h, w, C], of all heads or of those numbered."""
        which = range(len(self.weights)) if heads is None else heads
        flat = tokens.flatten(0, 2)  # [B h w, C]
        normal = F.batch_norm(flat, self.mean, self.variance, training=self.training, momentum=MOMENTUM)
        weight = torch.cat([self.weights[head] * self.scales[head] for head in which])  # [H K, C]
        bias = torch.cat([self.biases[head] + self.weights[head] @ self.shifts[head] for head in which])  # [H K]
        logits = torch.addmm(bias, normal, weight.T).unflatten(0, tokens.shape[:3])  # [B, h, w, H K]
        return logits.permute(0, 3, 1, 2).unflatten(1, (len(which), -1))

    def groups(self, rates: Sequence[float], decays: Sequence[float]) -> list[dict[str, object]]:
        """Parameter groups for an optimiser, one per head: its learning rate, kept as `base` too, and weight decay."""
        return [
            {
                "params": [self.scales[head], self.shifts[head], self.weights[head], self.biases[head]],
                "lr": rate,
                "base": rate,
                "weight_decay": decay,
            }
            for head, (rate, decay) in enumerate(zip(rates, decays, strict=True))
        ]


def train_step(
    heads: SegmentationHeads, optimizer: torch.optim.Optimizer, tokens: Tensor, targets: Tensor, *, void_counts: bool
) -> None:
    """One update of every head by the mean cross-entropy of its logits, bilinearly up at the size of the targets.

    The logits are computed on the grid of tokens and brought up afterwards: a 1x1 convolution and a bilinear resize
    commute, and the grid is two hundred times smaller.

    Args:
        heads: in training mode.
        optimizer: over `heads.groups`.
        tokens: float32 [B, h, w, C].
        targets: int64 [B, H, W], classes or VOID.
        void_counts: whether the mean runs over all pixels, void ones adding 0, as in the released procedure.
    """
    optimizer.zero_grad()
    logits = heads(tokens)  # [B, H, K, h, w]
    leaf = logits.detach().requires_grad_()
    count = targets.numel() if void_counts else int((targets != VOID).sum())
    rows = max(MAX_VALUES // (logits.shape[2] * targets[0].numel()), 1)  # images at once
    for head in range(logits.shape[1]):
        for part, truth in zip(leaf[:, head].split(rows), targets.split(rows), strict=True):
            scores = F.interpolate(part, truth.shape[1:], mode="bilinear", align_corners=False)  # [b, K, H, W]
            loss = F.cross_entropy(scores, truth, ignore_index=VOID, reduction="sum") / max(count, 1)
            loss.backward()
    logits.backward(leaf.grad)
    optimizer.step()


def set_rates(optimizer: torch.optim.Optimizer, step: int, num_steps: int, warmup: int) -> None:
    """Learning rates of step 0, 1, ...: linearly up over `warmup` steps, falling linearly to 0 after the last one."""
    factor = 1 - step / num_steps
    if step < warmup:
        factor *= 1 - (1 - step / warmup) * (1 - WARMUP_START)
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * factor
