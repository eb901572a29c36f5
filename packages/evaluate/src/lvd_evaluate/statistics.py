"""95 % intervals and paired comparisons; everything in shares of 1, everything seeded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A two-sided 95 % interval and how it was made."""

    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Comparison:
    """One model minus another on the same images."""

    delta: float
    low: float
    high: float
    p: float | None  # exact McNemar, two-sided; None where the metric is no plain share of images
    verdict: str  # better, worse or tie


def accuracy_interval(correct: np.ndarray, groups: np.ndarray, resamples: int, seed: int) -> Interval:
    """Interval of the mean over groups of the share of `correct`, bool [N]: Wilson for one group, else bootstrap.

    The bootstrap resamples images within each group, which is a binomial draw per group.
    """
    if groups.max() == 0:
        return wilson_interval(int(correct.sum()), len(correct))
    sizes = np.bincount(groups)
    shares = np.bincount(groups, weights=correct) / sizes  # [G]
    draws = np.random.default_rng(seed).binomial(sizes, shares, size=(resamples, len(sizes))) / sizes  # [R, G]
    low, high = _percentiles(draws.mean(axis=1))
    return Interval(low, high, f"bootstrap within classes, {resamples} resamples")


def wilson_interval(successes: int, total: int) -> Interval:
    """Score interval of a share (Wilson 1927): right coverage near 0 and 1, where the normal one fails."""
    from scipy.stats import binomtest

    low, high = binomtest(successes, total).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(low), float(high), "Wilson")


def compare(ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray, resamples: int, seed: int) -> Comparison:
    """Paired comparison of correctness, bool [N] each, on the same images.

    Resampling images with replacement and counting those that only one model gets right is a multinomial draw per
    group of (only ours right, only theirs right, the rest): the paired bootstrap without looping over images. The
    verdict is `tie` unless the interval excludes 0 and, for one group, the exact McNemar test agrees (p < 0.05): with
    few disagreements a bootstrap interval alone is too narrow.
    """
    from scipy.stats import binomtest

    sizes = np.bincount(groups)
    wins = np.bincount(groups, weights=ours & ~theirs)  # [G]
    losses = np.bincount(groups, weights=theirs & ~ours)
    delta = float(((wins - losses) / sizes).mean())
    shares = np.stack([wins, losses, sizes - wins - losses], axis=1) / sizes[:, None]  # [G, 3]
    generator = np.random.default_rng(seed)
    draws = np.zeros(resamples)
    for size, share in zip(sizes, shares, strict=True):
        counts = generator.multinomial(size, share, size=resamples)  # [R, 3]
        draws += (counts[:, 0] - counts[:, 1]) / size / len(sizes)
    low, high = _percentiles(draws)
    discordant = int(wins.sum() + losses.sum())
    p = None
    if len(sizes) == 1:
        p = float(binomtest(int(wins.sum()), discordant).pvalue) if discordant else 1.0
    tie = low <= 0 <= high or (p is not None and p >= 1 - CONFIDENCE)
    return Comparison(delta, low, high, p, "tie" if tie else "better" if delta > 0 else "worse")


def _percentiles(draws: np.ndarray) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)
