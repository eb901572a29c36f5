"""Nearest neighbours of unit vectors and their weighted vote (Wu et al. 2018, arXiv 1805.01978)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lvd_evaluate.progress import track

QUERY_CHUNK = 1024  # test images per matrix product
TRAIN_CHUNK = 65536  # train images per matrix product: bounds the similarities held at once to 256 MB


def nearest(queries: Tensor, gallery: Tensor, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Inner products and row numbers [Q, k], best first, of the k gallery rows nearest to each query.

    Args:
        queries: float32 [Q, D], unit length.
        gallery: float32 [N, D], unit length, N >= k.
        k: neighbours per query.
        device: where the products are computed, in float32: a quarter of fp16 similarities are ties.
    """
    similarities, indices = [], []
    with track("neighbours", len(queries), "images") as advance:
        for chunk in queries.split(QUERY_CHUNK):
            chunk = chunk.to(device)
            best = chunk.new_full((len(chunk), 0), 0.0)
            rows = torch.zeros((len(chunk), 0), dtype=torch.int64, device=device)
            for start in range(0, len(gallery), TRAIN_CHUNK):
                product = chunk @ gallery[start : start + TRAIN_CHUNK].to(device).T  # [q, n]
                found, place = product.topk(min(k, product.shape[1]))
                best, rows = torch.cat([best, found], dim=1), torch.cat([rows, place + start], dim=1)
                best, order = best.topk(min(k, best.shape[1]))
                rows = rows.gather(1, order)
            similarities.append(best.cpu())
            indices.append(rows.cpu())
            advance(len(chunk))
    return torch.cat(similarities), torch.cat(indices)


def vote(
    similarity: Tensor, labels: Tensor, neighbours: list[int], num_classes: int, temperature: float
) -> list[Tensor]:
    """Predicted classes, int64 [Q], for each k; a neighbour's vote weighs exp(similarity / temperature).

    Args:
        similarity: float32 [Q, K], best first.
        labels: int64 [Q, K], classes of the neighbours.
        neighbours: values of k, each at most K.
        num_classes: classes of the task.
        temperature: above 0; small values trust the nearest most.
    """
    weights = (similarity / temperature).softmax(dim=1)  # the common factor changes no argmax and cannot overflow
    predictions = []
    for k in neighbours:
        scores = weights.new_zeros(len(weights), num_classes).scatter_add_(1, labels[:, :k], weights[:, :k])
        predictions.append(scores.argmax(dim=1))
    return predictions


def unit(features: Tensor) -> Tensor:
    """Rows [N, D] as float32 of length 1."""
    return F.normalize(features.float(), dim=1)
