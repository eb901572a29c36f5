"""Sinkhorn-Knopp centering of teacher logits (SwAV, arXiv 2006.09882; DINOv2, arXiv 2304.07193, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from lvd_pretrain.ranks import all_reduce_max, all_reduce_sum


@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, temperature: float, iterations: int) -> Tensor:
    """Soft assignments whose prototype totals are equal over the batch of all ranks.

    Prototypes and samples are normalised in turn; the last normalisation is the samples', so every row sums to 1.
    Ranks may hold different numbers of rows, none included: each takes part in every reduction. Shifting by the one
    global maximum changes nothing but keeps exp() from overflowing.

    Args:
        logits: teacher logits [M, K], float32, this rank's rows.
        temperature: sharpening temperature.
        iterations: rounds of the two normalisations (3 in the paper).

    Returns:
        [M, K], rows sum to 1.
    """
    scaled = logits.float() / temperature
    peak = scaled.max() if len(scaled) else torch.tensor(-torch.inf, device=logits.device)
    assignments = torch.exp(scaled - all_reduce_max(peak))
    for _ in range(iterations):
        assignments = assignments / all_reduce_sum(assignments.sum(0)).clamp_min(torch.finfo(torch.float32).tiny)
        assignments = assignments / assignments.sum(1, keepdim=True)
    return assignments
