"""Which classes a probe takes for one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ConfusedPair:
    """Images of one class that were called another."""

    label: str  # what they are
    prediction: str  # what they were called
    count: int
    share: float  # of the images of that class, 0..1


def confusion_pairs(
    labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str], n: int = 10
) -> list[ConfusedPair]:
    """The n commonest mistakes, then by share of the class, then by class number.

    Args:
        labels: int64 [N], index into `classes`; below 0 where an image has no label.
        predictions: int64 [N], index into `classes`.
        classes: names.
        n: how many pairs at most.
    """
    wrong = (labels >= 0) & (labels != predictions)
    pairs, counts = np.unique(np.stack([labels[wrong], predictions[wrong]], axis=1), axis=0, return_counts=True)
    shares = counts / np.bincount(labels[labels >= 0], minlength=len(classes))[pairs[:, 0]]
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -shares, -counts))[:n]
    return [
        ConfusedPair(classes[pairs[row, 0]], classes[pairs[row, 1]], int(counts[row]), float(shares[row]))
        for row in order
    ]
