"""DINO's centering: an EMA of the teacher's mean logits is subtracted before sharpening (arXiv 2104.14294, 3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvd_pretrain.ranks import all_reduce_sum
from lvd_pretrain.scores import Assignment, Scores, logsumexp_of_rows


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
        self._follow(logits.float().sum(0), len(logits))
        return targets

    @torch.no_grad()
    def factored(self, scores: Scores, temperature: float) -> Assignment:
        """The same targets and the same move of the centre without a [M, K] matrix."""
        sharp = scores.sharpened(temperature)
        columns = -self.value / temperature
        targets = Assignment(sharp, columns, -logsumexp_of_rows(sharp, columns))
        # The logits' sum over rows is the logits of the features' sum.
        total = Scores(scores.features.sum(0, keepdim=True), scores.weight).dense()
        self._follow(total.squeeze(0), len(scores.features))
        return targets

    def _follow(self, total: Tensor, rows: int) -> None:
        """Move towards the mean over all ranks' rows; `total` is this rank's sum of logits, [K]."""
        totals = all_reduce_sum(torch.cat([total, total.new_full((1,), rows)]))
        mean = totals[:-1] / totals[-1].clamp_min(1)
        self.value.lerp_(mean, 1 - self.momentum)
