"""The three terms of the objective, float32, dense."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

KOLEO_EPS = 1e-8


def soft_cross_entropy(targets: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each row, -sum_k t_k log softmax(logits / temperature)_k: [..., K] twice -> [...]."""
    return -(targets * F.log_softmax(logits.float() / temperature, dim=-1)).sum(-1)


def dino_loss(targets: Tensor, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy over all pairs of a teacher view and a student view, except where both are the same crop.

    Args:
        targets: teacher assignments of the two global crops [2, B, K].
        logits: student logits of V views [V, B, K]; views 0 and 1 are the same two global crops, the rest local crops.
        temperature: student temperature.

    Returns:
        The global crops' and the local crops' share of the mean over 2 V - 2 pairs and B images; their sum is DINO's
        loss (arXiv 2104.14294, eq. 3). All pairs share one log-softmax.
    """
    log_probabilities = F.log_softmax(logits.float() / temperature, dim=-1)
    views, batch = logits.shape[:2]
    with torch.autocast(logits.device.type, enabled=False):  # autocast would multiply in bf16
        pairs = -torch.einsum("tbk,vbk->tv", targets.float(), log_probabilities) / (batch * (2 * views - 2))  # [2, V]
    return pairs[0, 1] + pairs[1, 0], pairs[:, 2:].sum()


def ibot_loss(targets: Tensor, logits: Tensor, weights: Tensor, crops: int, temperature: float) -> Tensor:
    """Masked-patch cross-entropy (iBOT, arXiv 2111.07832): mean per crop over its masked patches, then over ALL crops.

    Args:
        targets: teacher assignments of the masked patches [M, K].
        logits: student logits of the same patches [M, K].
        weights: 1 / number of masked patches of the patch's crop, [M].
        crops: global crops of this rank, masked or not.
        temperature: student temperature.
    """
    return (soft_cross_entropy(targets, logits, temperature) * weights).sum() / crops


def koleo_loss(features: Tensor) -> Tensor:
    """-mean log distance to the nearest neighbour on the sphere (KoLeo: arXiv 1806.03198; DINOv2, section 4).

    Args:
        features: cls tokens of one view [B, D], B >= 2; neighbours are sought within it.
    """
    with torch.autocast(features.device.type, enabled=False):
        points = F.normalize(features.float(), dim=-1, eps=KOLEO_EPS)
        with torch.no_grad():
            similarity = points @ points.T
            nearest = similarity.fill_diagonal_(-1).argmax(dim=1)
        distance = F.pairwise_distance(points, points[nearest], eps=KOLEO_EPS)
        return -torch.log(distance + KOLEO_EPS).mean()
