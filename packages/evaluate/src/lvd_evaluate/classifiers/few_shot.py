"""A few train images per class, drawn several times: who is drawn, and what the tries say together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lvd_evaluate.contracts import Measurement


def draw_shots(labels: np.ndarray, per_class: int, seed: int, attempt: int) -> Tensor:
    """Row numbers, sorted, of `per_class` images of each class; all of a class that has fewer.

    One shuffle per (seed, attempt) serves every number per class: what is drawn for few is among what is drawn for
    more, so that a curve over the number shows the number and not the luck of its draws.

    Args:
        labels: int64 [N].
        per_class: images of each class.
        seed: of the run.
        attempt: number of the try, from 0.
    """
    shuffled = np.random.default_rng([seed, attempt]).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, first, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    place = np.arange(len(labels)) - np.repeat(first, sizes)  # of each image among those of its class
    return torch.from_numpy(np.sort(by_class[place < per_class]))


def deal_folds(labels: np.ndarray, count: int) -> np.ndarray:
    """Fold of each image, int64 [N] in 0..count - 1: each class is dealt out in turn, as evenly as it goes."""
    order = np.argsort(labels, kind="stable")
    _, first, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    folds = np.empty(len(labels), dtype=np.int64)
    folds[order] = (np.arange(len(labels)) - np.repeat(first, sizes)) % count
    return folds


def measure_tries(predictions: Sequence[np.ndarray], labels: np.ndarray) -> list[Measurement]:
    """Top-1 and class mean of each test image's share of tries that classify it rightly.

    Images are the units, as with a single try: intervals and paired differences speak of the test images, given
    these draws; what the draws add is in the notes (`spread_of_tries`).

    Args:
        predictions: int64 [N] of each try.
        labels: int64 [N], true classes.
    """
    share = np.mean([prediction == labels for prediction in predictions], axis=0)  # [N]
    classes = np.unique(labels, return_inverse=True)[1]
    member = np.zeros((len(labels), classes.max() + 1))
    member[np.arange(len(labels)), classes] = 1
    return [
        Measurement("top1", share[:, None], np.ones((len(labels), 1))),
        Measurement("mean_class", member * share[:, None], member),
    ]


def spread_of_tries(predictions: Sequence[np.ndarray], labels: np.ndarray) -> dict[str, Any]:
    """Notes: top-1 of each try and their standard deviation (n - 1), None for a single try."""
    accuracies = [float((prediction == labels).mean()) for prediction in predictions]
    spread = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None
    return {"tries": len(accuracies), "top1_of_tries": accuracies, "top1_spread": spread}
