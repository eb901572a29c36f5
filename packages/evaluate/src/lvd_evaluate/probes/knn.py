"""Weighted k-nearest-neighbour classification of frozen features (DINOv2, arXiv 2304.07193, 7.1; Wu et al. 2018)."""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from torch import Tensor

from lvd_evaluate.config import KnnConfig
from lvd_evaluate.contracts import Encoder, Features, Outcome
from lvd_evaluate.errors import InputError
from lvd_evaluate.progress import track

QUERY_CHUNK = 1024  # test images per matrix product
TRAIN_CHUNK = 65536  # train images per matrix product: bounds the similarities held at once to 256 MB
logger = logging.getLogger(__name__)


def evaluate_knn(
    train: Features, test: Features, num_classes: int, encoder: Encoder, config: KnnConfig
) -> list[Outcome]:
    """One outcome per k: nothing is learned and nothing chosen, so there is no held-out slice.

    Raises:
        InputError: fewer train images than the smallest k.
    """
    neighbours = [k for k in sorted(set(config.neighbours)) if k <= len(train.labels)]
    if not neighbours:
        raise InputError(
            f"knn.neighbours={list(config.neighbours)}: there are {len(train.labels)} train images; give a smaller k"
        )
    headline = config.headline if config.headline in neighbours else neighbours[-1]
    if headline != config.headline:
        usable = ", ".join(map(str, neighbours))
        logger.warning(
            "knn.headline=%d is not among the usable k (%s): tables show k=%d", config.headline, usable, headline
        )
    device = encoder.device
    similarity, index = nearest(_unit(test.cls[:, -1]), _unit(train.cls[:, -1]), neighbours[-1], device)
    votes = vote(similarity, train.labels[index], neighbours, num_classes, config.temperature)
    size = f"resize{encoder.resize_size}-crop{encoder.image_size}"
    return [
        Outcome(
            setting={"k": k, "temperature": config.temperature},
            predictions=predictions.numpy(),
            headline=k == headline,
            procedure=f"knn-cosine-k{k}-t{config.temperature:g}-{size}",
            feature=encoder.feature + ", L2-normalised",
        )
        for k, predictions in zip(neighbours, votes, strict=True)
    ]


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


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=1)  # [N, D]
