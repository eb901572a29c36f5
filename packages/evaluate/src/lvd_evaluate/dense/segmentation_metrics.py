"""Pixels right and wrong, counted per image and class in whole numbers; mIoU and accuracies from their sums."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lvd_evaluate.contracts import VOID, Measurement


def count_pixels(prediction: Tensor, target: Tensor, num_classes: int) -> np.ndarray:
    """Per class, int64 [K, 3]: pixels that are it and called so, pixels called so, pixels that are it; void left out.

    Args:
        prediction: int64 [H, W], classes.
        target: int64 [H, W], classes or VOID.
        num_classes: K.
    """
    counts = target != VOID
    called, truth = prediction[counts], target[counts]
    columns = [torch.bincount(values, minlength=num_classes) for values in (truth[called == truth], called, truth)]
    return torch.stack(columns, dim=1).cpu().numpy()  # [K, 3]


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """Mean over classes that occur, in truth or prediction, of intersection over union; counts [..., K, 3], summed."""
    right, called, truth = np.moveaxis(counts.astype(np.float64), -1, 0)  # [..., K] each
    union = called + truth - right
    occurs = union > 0
    return (np.divide(right, union, out=np.zeros_like(right), where=occurs)).sum(-1) / np.maximum(occurs.sum(-1), 1)


def measure_pixels(counts: np.ndarray) -> list[Measurement]:
    """mIoU, pixel accuracy and mean class accuracy from counts int64 [N, K, 3] per image; the first is the headline."""
    right, called, truth = np.moveaxis(counts.astype(np.float64), 2, 0)  # [N, K] each
    return [
        Measurement("miou", right, called + truth - right),
        Measurement("pixel_accuracy", right.sum(axis=1, keepdims=True), truth.sum(axis=1, keepdims=True)),
        Measurement("class_accuracy", right, truth),
    ]
