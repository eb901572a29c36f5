"""Losses of depth maps in log space (Eigen et al., arXiv 1406.2283; weights as in DINOv2's released settings)."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-3  # metres added before the logarithm
MEAN_WEIGHT = 0.15  # of the squared mean against the variance
GRADIENT_STEPS = (1, 2, 4, 8)  # pixels between samples


def sig_loss(prediction: Tensor, truth: Tensor, valid: Tensor, *, mean_only: bool = False) -> Tensor:
    """Square root of the variance and 0.15 times the squared mean of log differences over all valid pixels.

    Args:
        prediction: metres, any shape.
        truth: metres, same shape.
        valid: bool, same shape; without two valid pixels the loss is 0.
        mean_only: drops the variance: the first steps only bring the scale into place.
    """
    if int(valid.sum()) < 2:
        return prediction.sum() * 0
    difference = log_difference(prediction, truth)[valid]
    if mean_only:
        return MEAN_WEIGHT**0.5 * difference.mean().abs()
    return (difference.var() + MEAN_WEIGHT * difference.mean().square()).sqrt()


def gradient_loss(prediction: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute slope of the log difference, in both directions, summed over four grids.

    The released code takes its slopes along batch and channel of a [B, 1, H, W] tensor, which at the released two
    images a device is always 0; these are along height and width.

    Args:
        prediction: metres [B, H, W].
        truth: metres [B, H, W].
        valid: bool [B, H, W].
    """
    total = prediction.sum() * 0
    difference = log_difference(prediction, truth)
    for step in GRADIENT_STEPS:
        grid, known = difference[:, ::step, ::step], valid[:, ::step, ::step]
        slopes = torch.cat(
            [
                (grid[:, 2:] - grid[:, :-2]).abs()[known[:, 2:] & known[:, :-2]],
                (grid[:, :, 2:] - grid[:, :, :-2]).abs()[known[:, :, 2:] & known[:, :, :-2]],
            ]
        )
        total = total + slopes.sum() / known.sum().clamp(min=1)
    return total


def log_difference(prediction: Tensor, truth: Tensor) -> Tensor:
    """Logarithm of predicted over true metres, each plus a millimetre."""
    return torch.log(prediction + EPSILON) - torch.log(truth + EPSILON)
