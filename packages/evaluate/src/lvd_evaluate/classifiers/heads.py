"""Many linear classifiers on the same input, trained together: one matrix product serves them all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

SMALL_STEP = 1_000_000_000  # multiply-adds of one matrix product


class StackedHeads:
    """H independent linear classifiers [H, C, D] under SGD with momentum, each with its own learning rate.

    The gradient of the mean cross-entropy is written out (softmax minus one-hot), so a step is two matrix products
    for all heads, whatever H is. Equal to H separate `nn.Linear` under `torch.optim.SGD` up to rounding.
    """

    def __init__(self, weights: Tensor, learning_rates: Tensor, momentum: float) -> None:
        """Start from float32 weights [H, C, D] and zero biases; learning_rates [H]."""
        self.weights = weights.clone()
        self.biases = weights.new_zeros(weights.shape[:2])  # [H, C]
        self._rates = learning_rates.to(weights)
        self._momentum = momentum
        self._weight_velocity = torch.zeros_like(self.weights)
        self._bias_velocity = torch.zeros_like(self.biases)

    def logits(self, features: Tensor) -> Tensor:
        """Scores [B, H, C] of float32 features [B, D]."""
        flat = torch.addmm(self.biases.flatten(), features, self.weights.flatten(0, 1).T)  # [B, H C]
        return flat.unflatten(1, self.biases.shape)

    def step(self, features: Tensor, labels: Tensor, decay: float) -> None:
        """One SGD update from features [B, D] and labels [B]; learning rates are multiplied by `decay`."""
        error = self.logits(features).softmax(dim=2)  # [B, H, C]
        error[torch.arange(len(labels), device=labels.device), :, labels] -= 1
        error /= len(labels)
        self._weight_velocity.flatten(0, 1).addmm_(error.flatten(1).T, features, beta=self._momentum)
        self._bias_velocity.mul_(self._momentum).add_(error.sum(dim=0))
        rates = self._rates * decay
        self.weights.addcmul_(self._weight_velocity, rates[:, None, None], value=-1)
        self.biases.addcmul_(self._bias_velocity, rates[:, None], value=-1)

    def state(self) -> list[Tensor]:
        """Everything that steps change; copies into it set these heads back."""
        return [self.weights, self.biases, self._weight_velocity, self._bias_velocity]


@contextmanager
def threads_for_step(heads: StackedHeads, batch_size: int) -> Iterator[None]:
    """One CPU thread while steps are small: waiting for a core that others keep busy costs more than its help saves.

    On two cores that other jobs shared, 13 heads on 192 values took 0.8 ms a step with one thread and 34 ms with two.
    """
    threads = torch.get_num_threads()
    if batch_size * heads.weights.numel() < SMALL_STEP:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def draw_weights(num_heads: int, num_classes: int, width: int, std: float, generator: torch.Generator) -> Tensor:
    """Normal weights [H, C, D], float32, on the CPU so that they do not depend on the device."""
    return torch.randn(num_heads, num_classes, width, generator=generator) * std


def draw_batches(num_images: int, batch_size: int, num_steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers [B] of each batch: pass after pass over all images in a new order, remainders carried over."""
    waiting = torch.empty(0, dtype=torch.int64)
    for _ in range(num_steps):
        while len(waiting) < batch_size:
            waiting = torch.cat([waiting, torch.randperm(num_images, generator=generator)])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def cosine_decay(step: int, num_steps: int) -> float:
    """1 at the first step, 0 after the last (`CosineAnnealingLR` with eta_min 0)."""
    return 0.5 * (1 + math.cos(math.pi * step / num_steps))


def split_off(labels: np.ndarray, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Row numbers of a held-out slice and of the rest.

    The slice is every n-th image of a shuffle sorted by class, so that classes keep their shares.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    count = min(max(round(share * len(labels)), 1), len(labels) - 1)
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[((np.arange(count) + 0.5) * len(labels) / count).astype(np.int64)] = True
    return torch.from_numpy(np.sort(by_class[chosen])), torch.from_numpy(np.sort(by_class[~chosen]))
