"""Sinkhorn-Knopp centering of teacher logits (SwAV, arXiv 2006.09882; DINOv2, arXiv 2304.07193, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from lvd_pretrain.ranks import all_reduce_max, all_reduce_sum


@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, temperature: float, iterations: int) -> Tensor:
    """Soft assignments whose prototype totals are equal over the batch of all ranks.

    Prototypes and samples are normalised in turn; the last normalisation is the samples', so every row sums to 1. The
    steps are taken on log potentials, one per prototype and one per sample: exp() of sharp logits would overflow or
    vanish. Ranks may hold different numbers of rows, none included: each takes part in every reduction.

    Args:
        logits: teacher logits [M, K], this rank's rows.
        temperature: sharpening temperature.
        iterations: rounds of the two normalisations (3 in the paper).

    Returns:
        float32 [M, K], rows sum to 1.
    """
    scaled = logits.float() / temperature
    rows = scaled.new_zeros(len(scaled), 1)
    columns = scaled.new_zeros(scaled.shape[1])
    for _ in range(iterations):
        columns = -_logsumexp_over_ranks(scaled + rows)
        rows = -torch.logsumexp(scaled + columns, dim=1, keepdim=True)
    return torch.exp(scaled + columns + rows)


def _logsumexp_over_ranks(values: Tensor) -> Tensor:
    """log sum exp over the rows of all ranks, [M, K] -> [K]."""
    peak = values.amax(0) if len(values) else torch.full_like(values.sum(0), -torch.inf)
    peak = all_reduce_max(peak)
    return peak + all_reduce_sum(torch.exp(values - peak).sum(0)).log()
