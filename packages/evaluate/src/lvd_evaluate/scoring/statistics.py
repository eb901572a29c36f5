"""95 % intervals and paired comparisons; everything in shares of 1, everything seeded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lvd_evaluate.contracts import Measurement

CONFIDENCE = 0.95
DRAWS = 50_000_000  # units drawn for one bootstrap at most: 10,000 resamples up to 5,000 units
MIN_RESAMPLES = 1_000  # but never fewer, nor more than were asked for
BLOCK = 4_000_000  # units drawn at once


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


def measurement_value(found: Measurement) -> float:
    """The metric's value: mean over groups of summed ratios; NaN if no group has a denominator."""
    return float(_ratios(found.numerators.sum(axis=0), found.denominators.sum(axis=0)))


def measurement_interval(found: Measurement, resamples: int, seed: int) -> Interval:
    """95 % interval of a measurement: Wilson for a plain share of units, else a bootstrap over units."""
    if _is_share(found):
        return accuracy_interval(found.numerators[:, 0] > 0, _one_group(found), resamples, seed)
    count = _affordable(resamples, len(found.numerators))
    low, high = _percentiles(np.concatenate([_resampled(found, weights) for weights in _weights(found, count, seed)]))
    return Interval(low, high, f"bootstrap over {len(found.numerators)} units, {count} resamples")


def compare_measurements(ours: Measurement, theirs: Measurement, resamples: int, seed: int) -> Comparison:
    """Paired comparison of the same metric on the same units: every resample serves both models."""
    assert ours.numerators.shape[0] == theirs.numerators.shape[0]
    if _is_share(ours) and _is_share(theirs):
        return compare(ours.numerators[:, 0] > 0, theirs.numerators[:, 0] > 0, _one_group(ours), resamples, seed)
    count = _affordable(resamples, len(ours.numerators))
    draws = [_resampled(ours, weights) - _resampled(theirs, weights) for weights in _weights(ours, count, seed)]
    low, high = _percentiles(np.concatenate(draws))
    delta = measurement_value(ours) - measurement_value(theirs)
    better = "better" if (delta > 0) == ours.higher_is_better else "worse"
    return Comparison(delta, low, high, None, better if low > 0 or high < 0 else "tie")


def _is_share(found: Measurement) -> bool:
    """Whether every unit is right or wrong and counts once, in one group."""
    single = found.numerators.shape[1] == 1 and found.higher_is_better and not found.unit
    return single and bool((found.denominators == 1).all() and np.isin(found.numerators, (0.0, 1.0)).all())


def _one_group(found: Measurement) -> np.ndarray:
    return np.zeros(len(found.numerators), dtype=np.int64)


def _affordable(resamples: int, units: int) -> int:
    return min(resamples, max(MIN_RESAMPLES, DRAWS // max(units, 1)))


def _weights(found: Measurement, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each unit is drawn, float64 [r, N] a block, of resamples with replacement."""
    units = len(found.numerators)
    generator = np.random.default_rng(seed)
    block = max(BLOCK // units, 1)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        rows = generator.integers(0, units, size=(size, units)) + units * np.arange(size)[:, None]
        yield np.bincount(rows.ravel(), minlength=size * units).reshape(size, units).astype(np.float64)


def _resampled(found: Measurement, weights: np.ndarray) -> np.ndarray:
    return _ratios(weights @ found.numerators, weights @ found.denominators)  # [r]


def _ratios(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Mean over the last axis of numerators / denominators, groups without a denominator left out."""
    there = denominators > 0
    shares = np.where(there, numerators / np.where(there, denominators, 1), 0.0)
    counted = there.sum(axis=-1)
    return np.where(counted > 0, shares.sum(axis=-1) / np.maximum(counted, 1), np.nan)


def _percentiles(draws: np.ndarray) -> tuple[float, float]:
    """Of the draws that have a value: a resample may hold no unit that counts."""
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return np.nan, np.nan
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)
