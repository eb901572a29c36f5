"""Classification metrics as means over groups of images, so that one set of statistics serves them all."""

from __future__ import annotations

import numpy as np

from lvd_evaluate.config import METRICS


def groups_of(metric: str, labels: np.ndarray) -> np.ndarray:
    """Group of each image, int64 [N]: all 0 for `top1`; for `mean_class` its class among those that occur.

    A metric is the mean over groups of the share of correct images: one group for top-1, one per class for the other.
    """
    assert metric in METRICS, metric
    if metric == "top1":
        return np.zeros(len(labels), dtype=np.int64)
    return np.unique(labels, return_inverse=True)[1]


def group_accuracy(correct: np.ndarray, groups: np.ndarray) -> float:
    """Mean over groups of the share of True in `correct`, bool [N]; in 0..1."""
    return float((np.bincount(groups, weights=correct) / np.bincount(groups)).mean())
