"""Sinkhorn-Knopp centering of teacher logits (SwAV, arXiv 2006.09882; DINOv2, arXiv 2304.07193, section 4).

The steps are taken on log potentials, one per prototype and one per sample: exp() of sharp logits would overflow or
vanish. Ranks may hold different numbers of rows, none included: each takes part in every reduction, and the reductions
of the dense and of the factored form are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lvd_pretrain.ranks import all_reduce_max, all_reduce_sum
from lvd_pretrain.scores import Assignment, Scores, logsumexp_of_columns, logsumexp_of_rows


@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, temperature: float, iterations: int) -> Tensor:
    """Soft assignments whose prototype totals are equal over the batch of all ranks.

    Prototypes and samples are normalised in turn; the last normalisation is the samples', so every row sums to 1.

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
        columns = -_sum_over_ranks(torch.logsumexp(scaled + rows, dim=0))
        rows = -torch.logsumexp(scaled + columns, dim=1, keepdim=True)
    return torch.exp(scaled + columns + rows)


@torch.no_grad()
def factored_sinkhorn_knopp(scores: Scores, temperature: float, iterations: int) -> Assignment:
    """`sinkhorn_knopp` without a [M, K] matrix: logits are computed anew, tile by tile, in each half-iteration.

    Args:
        scores: teacher logits [M, K], this rank's rows.
        temperature: sharpening temperature.
        iterations: rounds of the two normalisations.
    """
    sharp = scores.sharpened(temperature)
    rows = sharp.features.new_zeros(len(sharp.features))
    columns = sharp.features.new_zeros(len(sharp.weight))
    for _ in range(iterations):
        columns = -_sum_over_ranks(logsumexp_of_columns(sharp, rows))
        rows = -logsumexp_of_rows(sharp, columns)
    return Assignment(sharp, columns, rows)


def _sum_over_ranks(logs: Tensor) -> Tensor:
    """log of the sum over ranks of exp(logs), [K]."""
    peak = all_reduce_max(logs)
    return peak + all_reduce_sum(torch.exp(logs - peak)).log()
