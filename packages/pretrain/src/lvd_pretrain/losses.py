"""The three terms of the objective, float32.

Logits and targets come whole, the plain form, or factored (scores.py); then cross-entropies are summed tile by tile, in
the forward and again in the backward pass, and no [tokens, prototypes] matrix is ever stored.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lvd_pretrain.scores import Assignment, Scores, product_precision, takes_bf16, tiles

KOLEO_EPS = 1e-8


def soft_cross_entropy(targets: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each row, -sum_k t_k log softmax(logits / temperature)_k: [..., K] twice -> [...]."""
    return -(targets * F.log_softmax(logits.float() / temperature, dim=-1)).sum(-1)


def pair_cross_entropy(targets: Tensor | Assignment, logits: Tensor | Scores, temperature: float) -> Tensor:
    """Cross-entropy of each of T target views with each of V student views of the same B samples.

    Args:
        targets: teacher assignments [T, B, K], rows sum to 1.
        logits: student logits [V, B, K]; dense or factored as the targets are.
        temperature: student temperature.

    Returns:
        float32 [T, V, B].
    """
    if isinstance(targets, Assignment):
        assert isinstance(logits, Scores), "factored targets go with factored logits"
        student = logits.sharpened(temperature)
        return _FactoredCrossEntropy.apply(*student, *targets.scores, targets.columns, targets.rows)
    assert isinstance(logits, Tensor), "dense targets go with dense logits"
    log_probabilities = F.log_softmax(logits.float() / temperature, dim=-1)
    with torch.autocast(logits.device.type, enabled=False):  # autocast would multiply in bf16
        return -torch.einsum("tbk,vbk->tvb", targets.float(), log_probabilities)


class _FactoredCrossEntropy(torch.autograd.Function):
    """log sum exp of the student's logits minus their mean under the targets, for all pairs of views.

    The gradient with respect to a logit, sum over pairs of (softmax - target), is computed per tile from recomputed
    logits and multiplied into the gradients of features and prototypes at once.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, target_features: Tensor, target_weight: Tensor, *potentials: Tensor
    ) -> Tensor:
        student, targets = Scores(features, weight), Assignment(Scores(target_features, target_weight), *potentials)
        normalizer = features.new_full(features.shape[:2], -torch.inf)  # [V, B]
        mean = features.new_zeros(len(target_features), *normalizer.shape)  # [T, V, B]
        ctx.bf16 = takes_bf16(weight.device)
        with product_precision(weight.device, ctx.bf16):
            for rows, columns in tiles(mean.shape[2], len(weight), len(features) + len(target_features)):
                logits = student.tile(rows, columns)  # [V, b, k]
                normalizer[:, rows] = torch.logaddexp(normalizer[:, rows], logits.logsumexp(-1))
                mean[..., rows] += torch.einsum("tbk,vbk->tvb", targets.tile(rows, columns), logits)
        ctx.save_for_backward(*student, *targets.scores, *potentials, normalizer)
        return normalizer - mean

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (upstream,) = gradients  # [T, V, B]
        features, weight, target_features, target_weight, columns_, rows_, normalizer = ctx.saved_tensors
        student = Scores(features, weight)
        targets = Assignment(Scores(target_features, target_weight), columns_, rows_)
        to_features, to_weight = torch.zeros_like(features), torch.zeros_like(weight)
        total = upstream.sum(0)  # [V, B]
        with product_precision(weight.device, ctx.bf16):
            for rows, columns in tiles(total.shape[1], len(weight), len(features) + len(target_features)):
                tile = student.tile(rows, columns).sub_(normalizer[:, rows, None]).exp_()  # softmax, [V, b, k]
                tile.mul_(total[:, rows, None])
                tile.sub_(torch.einsum("tvb,tbk->vbk", upstream[..., rows], targets.tile(rows, columns)))
                to_features[:, rows] += tile @ weight[columns]
                to_weight[columns].addmm_(tile.flatten(0, 1).T, features[:, rows].flatten(0, 1))
        return to_features, to_weight, None, None, None, None


def dino_loss(targets: Tensor | Assignment, logits: Tensor | Scores, temperature: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy over all pairs of a teacher view and a student view, except where both are the same crop.

    Args:
        targets: teacher assignments of the two global crops [2, B, K].
        logits: student logits of V views [V, B, K]; views 0 and 1 are the same two global crops, the rest local crops.
        temperature: student temperature.

    Returns:
        The global crops' and the local crops' share of the mean over 2 V - 2 pairs and B images; their sum is DINO's
        loss (arXiv 2104.14294, eq. 3). All pairs share one log-softmax.
    """
    losses = pair_cross_entropy(targets, logits, temperature)  # [2, V, B]
    pairs = losses.sum(-1) / (losses.shape[2] * (2 * losses.shape[1] - 2))  # [2, V]
    return pairs[0, 1] + pairs[1, 0], pairs[:, 2:].sum()


def ibot_loss(
    targets: Tensor | Assignment, logits: Tensor | Scores, weights: Tensor, crops: int, temperature: float
) -> Tensor:
    """Masked-patch cross-entropy (iBOT, arXiv 2111.07832): mean per crop over its masked patches, then over ALL crops.

    Args:
        targets: teacher assignments of the masked patches [M, K].
        logits: student logits of the same patches [M, K].
        weights: 1 / number of masked patches of the patch's crop, [M].
        crops: global crops of this rank, masked or not.
        temperature: student temperature.
    """
    if isinstance(targets, Assignment):
        one_view = (1, len(weights))
        losses = pair_cross_entropy(targets.unflatten(0, one_view), logits.unflatten(0, one_view), temperature)[0, 0]
    else:
        assert isinstance(logits, Tensor), "dense targets go with dense logits"
        losses = soft_cross_entropy(targets, logits, temperature)  # [M]
    return (losses * weights).sum() / crops


def koleo_loss(features: Tensor) -> Tensor:
    """-mean log distance to the nearest neighbour on the sphere (KoLeo: arXiv 1806.03198; DINOv2, section 4).

    Args:
        features: cls tokens of one view [B, D], B >= 2; neighbours are sought within it.
    """
    with torch.autocast(features.device.type, enabled=False):
        points = F.normalize(features.float(), dim=-1, eps=KOLEO_EPS)
        with torch.no_grad():
            exact = points.double()  # near points differ in the last digits, and a GPU may round float32 factors
            similarity = exact @ exact.T
            nearest = similarity.fill_diagonal_(-1).argmax(dim=1)
        distance = F.pairwise_distance(points, points[nearest], eps=KOLEO_EPS)
        return -torch.log(distance + KOLEO_EPS).mean()
