"""Weighted k-nearest-neighbour classification of frozen features (DINOv2, arXiv 2304.07193, 7.1; Wu et al. 2018)."""

from __future__ import annotations

import logging

from lvd_evaluate.config import KnnConfig
from lvd_evaluate.contracts import Encoder, Features, Outcome
from lvd_evaluate.errors import InputError
from lvd_evaluate.neighbours import nearest, unit, vote

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
    similarity, index = nearest(unit(test.cls[:, -1]), unit(train.cls[:, -1]), neighbours[-1], device)
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
