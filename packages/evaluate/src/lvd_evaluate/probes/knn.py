"""Weighted k-nearest-neighbour classification of frozen features (DINOv2, arXiv 2304.07193, 7.1; Wu et al. 2018)."""

from __future__ import annotations

import logging
from dataclasses import replace

from torch import Tensor

from lvd_evaluate.classifiers.few_shot import draw_shots, measure_tries, spread_of_tries
from lvd_evaluate.classifiers.neighbours import nearest, unit, vote
from lvd_evaluate.config import FewShotConfig, KnnConfig
from lvd_evaluate.contracts import Encoder, Features, Outcome
from lvd_evaluate.errors import InputError

logger = logging.getLogger(__name__)


def evaluate_knn(
    train: Features, test: Features, num_classes: int, encoder: Encoder, config: KnnConfig
) -> list[Outcome]:
    """One outcome per k: nothing is learned and nothing chosen, so there is no held-out slice.

    With `config.leave_one_out`, train and test are the same object, and no image is its own neighbour.

    Raises:
        InputError: fewer train images than the smallest k, or two sets where one is to be left one out of.
    """
    if config.leave_one_out and train is not test:
        raise InputError("knn.leave_one_out=true takes one set of images, train; there is a test set beside it")
    available = len(train.labels) - config.leave_one_out
    neighbours = [k for k in sorted(set(config.neighbours)) if k <= available]
    if not neighbours:
        raise InputError(
            f"knn.neighbours={list(config.neighbours)}: there are {available} train images"
            f"{' beside each' if config.leave_one_out else ''}; give a smaller k"
        )
    headline = config.headline if config.headline in neighbours else neighbours[-1]
    if headline != config.headline:
        usable = ", ".join(map(str, neighbours))
        logger.warning(
            "knn.headline=%d is not among the usable k (%s): tables show k=%d", config.headline, usable, headline
        )
    votes = _classify(train, test, neighbours, num_classes, encoder, config)
    return [
        Outcome(
            setting={"k": k, "temperature": config.temperature},
            predictions=predictions.numpy(),
            headline=k == headline,
            procedure=_procedure(k, "loo-" if config.leave_one_out else "", encoder, config),
            feature=encoder.feature + ", L2-normalised",
            notes={"leave_one_out": True} if config.leave_one_out else {},
        )
        for k, predictions in zip(neighbours, votes, strict=True)
    ]


def evaluate_few_shot_knn(
    train: Features,
    test: Features,
    num_classes: int,
    encoder: Encoder,
    config: KnnConfig,
    shots: FewShotConfig,
    seed: int,
) -> list[Outcome]:
    """One outcome per number n of images per class and per k (those of the grid below n, and n): mean over tries.

    Tables show the k of `knn.headline`, or n where n is smaller, for each n: nothing is chosen on test.
    """
    truth = test.labels.cpu().numpy()
    outcomes = []
    for per_class in sorted(set(shots.per_class)):
        drawn = [draw_shots(train.labels.cpu().numpy(), per_class, seed, attempt) for attempt in range(shots.tries)]
        most = min(len(rows) for rows in drawn)
        wanted = {k for k in config.neighbours if k < per_class} | {per_class, min(config.headline, per_class)}
        neighbours = sorted({min(k, most) for k in wanted})  # few classes, or classes that have fewer images
        headline = min(config.headline, neighbours[-1])
        tries = [
            _classify(
                replace(train, cls=train.cls[rows], labels=train.labels[rows]),
                *(test, neighbours, num_classes, encoder, config),
            )
            for rows in drawn
        ]
        for position, k in enumerate(neighbours):
            predictions = [votes[position].numpy() for votes in tries]
            outcomes.append(
                Outcome(
                    setting={"per_class": per_class, "k": k, "temperature": config.temperature},
                    headline=k == headline,
                    procedure=_procedure(k, f"{per_class}shot-", encoder, config),
                    measurements=measure_tries(predictions, truth),
                    feature=encoder.feature + ", L2-normalised",
                    notes={"seed": seed, **spread_of_tries(predictions, truth)},
                )
            )
    return outcomes


def _classify(
    train: Features, test: Features, neighbours: list[int], num_classes: int, encoder: Encoder, config: KnnConfig
) -> list[Tensor]:
    """Predicted classes, int64 [N_test], for each k."""
    queries, gallery = unit(test.cls[:, -1]), unit(train.cls[:, -1])
    similarity, index = nearest(
        queries, gallery, neighbours[-1], encoder.device, skip_self=config.leave_one_out and train is test
    )
    return vote(similarity, train.labels[index], neighbours, num_classes, config.temperature)


def _procedure(k: int, kind: str, encoder: Encoder, config: KnnConfig) -> str:
    size = f"resize{encoder.resize_size}-crop{encoder.image_size}"
    return f"knn-cosine-k{k}-t{config.temperature:g}-{kind}{size}"
