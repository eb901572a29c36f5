"""DINO's centering: an EMA of the teacher's mean logits is subtracted before sharpening (arXiv 2104.14294, 3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvd_pretrain.ranks import all_reduce_sum


class Center(nn.Module):
    """The running centre of one head's teacher logits, float32 [K], starting at 0."""

    value: Tensor

    def __init__(self, prototypes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(prototypes))

    @torch.no_grad()
    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Targets softmax((logits - centre) / temperature), [M, K]; the centre then moves towards this batch's mean."""
        targets = F.softmax((logits.float() - self.value) / temperature, dim=-1)
        totals = all_reduce_sum(
            torch.cat([logits.float().sum(0), logits.new_tensor([len(logits)], dtype=torch.float32)])
        )
        mean = totals[:-1] / totals[-1].clamp_min(1)
        self.value.lerp_(mean, 1 - self.momentum)
        return targets
