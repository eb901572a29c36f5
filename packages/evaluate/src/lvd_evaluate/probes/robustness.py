"""Robustness: further test sets answered by the heads of the base task (DINOv2, arXiv 2304.07193, 7.1).

The linear head is the one that the linear probe chooses on the base task; no set has a say in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lvd_evaluate.classifiers.linear_grid import ChosenHead, fit_head, to_device
from lvd_evaluate.classifiers.linear_stream import find_training
from lvd_evaluate.classifiers.neighbours import nearest, unit, vote
from lvd_evaluate.config import FeaturesConfig, KnnConfig, LinearConfig, RobustnessConfig
from lvd_evaluate.contracts import Encoder, Features, Measurement, Outcome, Split
from lvd_evaluate.encoders import preprocessing
from lvd_evaluate.tasks.corruptions import ALEXNET_ERRORS, SEVERITIES
from lvd_evaluate.tasks.robustness import Corruptions, RobustnessSet, encoder_for

IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class LinearAnswers:
    """The chosen linear head."""

    head: ChosenHead

    def __call__(self, features: Features, classes: np.ndarray) -> np.ndarray:
        """Predicted classes, int64 [N]: the largest of the allowed logits."""
        allowed = torch.from_numpy(classes)
        return allowed[self.head.logits(features)[:, allowed].argmax(dim=1)].numpy()


@dataclass(frozen=True)
class NeighbourAnswers:
    """The weighted vote of train images."""

    train: Features
    num_classes: int
    config: KnnConfig
    device: torch.device

    def __call__(self, features: Features, classes: np.ndarray) -> np.ndarray:
        """Predicted classes, int64 [N]: the vote of the nearest train images of allowed classes."""
        labels = self.train.labels.cpu()
        rows = torch.isin(labels, torch.from_numpy(classes)).nonzero().squeeze(1)
        k = min(self.config.headline, len(rows))
        queries, gallery = unit(features.cls[:, -1]), unit(self.train.cls[rows, -1])
        similarity, index = nearest(queries, gallery, k, self.device)
        return vote(similarity, labels[rows][index], [k], self.num_classes, self.config.temperature)[0].numpy()


def evaluate_robustness(
    train: Features,
    test: Features,
    sets: Sequence[tuple[RobustnessSet, Features]],
    num_classes: int,
    encoder: Encoder,
    config: RobustnessConfig,
    linear: LinearConfig,
    knn: KnnConfig,
    protocol: str,
    seed: int,
    *,
    train_split: Split | None = None,
    folder: Path | None = None,
    passes: FeaturesConfig | None = None,
) -> list[Outcome]:
    """One outcome per head and set: top1, or for corruptions mCE or the mean error.

    Args:
        train: of the base task.
        test: of the base task; with protocol `dinov2` the linear head is chosen on it.
        sets: with the features that `encoder_for(set, encoder)` gives.
        num_classes: of the base task.
        encoder: that gave them.
        config: which heads.
        linear: the grid, and how it is trained.
        knn: the vote; `headline` is its k.
        protocol: clean or dinov2.
        seed: as of the linear probe.
        train_split: as of the linear probe, like `folder` and `passes`.

    Raises:
        InputError: as of the linear probe.
    """
    outcomes = []
    for head in config.heads:
        if head == "linear":
            base, judge = to_device(train, encoder.device), to_device(test, encoder.device)
            training = find_training(base, num_classes, encoder, linear, protocol, seed, train_split, folder, passes)
            chosen = fit_head(training, base, judge, linear, protocol, seed)
            training.forget()
            answers: LinearAnswers | NeighbourAnswers = LinearAnswers(chosen)
            procedure, feature = training.name(protocol), f"{encoder.feature}; {chosen.feature_set}"
            notes: dict[str, Any] = {"chosen_on": chosen.chosen_on, "accuracy_there": chosen.accuracy}
            notes |= {"learning_rate": linear.learning_rates[chosen.rate], "steps": training.steps}
        else:
            answers = NeighbourAnswers(train, num_classes, knn, encoder.device)
            procedure = f"knn-cosine-k{knn.headline}-t{knn.temperature:g}"
            feature, notes = f"{encoder.feature}, L2-normalised", {}
        right = answers(test, np.arange(num_classes)) == test.labels.cpu().numpy()
        notes["top1_on_base"] = float(right.mean())
        for found, features in sets:
            sees = encoder_for(found, encoder)
            measured, more = measure_set(found, answers(features, found.classes), num_classes)
            outcomes.append(
                Outcome(
                    setting={"head": head, "set": found.name},
                    headline=True,
                    procedure=f"{procedure}-resize{sees.resize_size}-crop{sees.image_size}",
                    measurements=[measured],
                    feature=feature,
                    preprocessing=preprocessing(sees),
                    notes=notes | more,
                )
            )
    return outcomes


def measure_set(found: RobustnessSet, predictions: np.ndarray, num_classes: int) -> tuple[Measurement, dict[str, Any]]:
    """What a set's metric is made of, and what to note of it.

    Args:
        found: the set.
        predictions: int64 [N].
        num_classes: of the base task.
    """
    correct = (predictions[:, None] == found.accepted).any(axis=1)
    notes: dict[str, Any] = {"images": len(correct), "classes": len(found.classes)}
    if found.corruptions is None:
        return Measurement("top1", correct[:, None].astype(np.float64), np.ones((len(correct), 1))), notes
    errors, weights = _error_sums(found.corruptions, correct)
    notes["errors"] = dict(
        zip(found.corruptions.names, (errors.sum(axis=0) / weights.sum(axis=0)).tolist(), strict=True)
    )
    metric = "corruption_error"
    if is_imagenet_c(found.corruptions) and num_classes == IMAGENET_CLASSES:
        metric = "mce"
        weights = weights * np.array([ALEXNET_ERRORS[name] for name in found.corruptions.names])
    return Measurement(metric, errors, weights, higher_is_better=False), notes


def is_imagenet_c(corruptions: Corruptions) -> bool:
    """Whether all fifteen corruptions are there at all five severities, which alone makes an mCE."""
    shown = set(zip(corruptions.corruption.tolist(), corruptions.severity.tolist(), strict=True))
    named = {(corruptions.names[place], severity) for place, severity in shown}
    return named == set(itertools.product(ALEXNET_ERRORS, SEVERITIES))


def _error_sums(corruptions: Corruptions, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors and weights, float64 [units, corruptions]: their sums' ratio is the mean over severities of the error."""
    severities, level = np.unique(corruptions.severity, return_inverse=True)
    cell = corruptions.corruption * len(severities) + level
    share = 1 / np.bincount(cell)[cell]  # every severity weighs the same, however many images it has
    shape = (corruptions.unit.max() + 1, len(corruptions.names))
    errors, weights = np.zeros(shape), np.zeros(shape)
    place = (corruptions.unit, corruptions.corruption)
    np.add.at(errors, place, share * ~correct)
    np.add.at(weights, place, share)
    return errors, weights
