import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvd_evaluate.metrics import groups_of
from lvd_evaluate.statistics import accuracy_interval, compare, wilson_interval


@given(st.integers(0, 200), st.integers(0, 200))
def test_wilson_equals_its_closed_form(right, wrong):
    total = right + wrong + 1
    share, z = right / total, 1.959963984540054
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    interval = wilson_interval(right, total)
    assert interval.low == pytest.approx(centre - half, abs=1e-9)
    assert interval.high == pytest.approx(centre + half, abs=1e-9)


def test_wilson_covers_the_truth_about_95_times_in_100():
    generator = np.random.default_rng(0)
    draws = generator.binomial(200, 0.9, size=1000)
    intervals = [wilson_interval(int(draw), 200) for draw in draws]
    covered = np.mean([interval.low <= 0.9 <= interval.high for interval in intervals])
    assert 0.93 <= covered <= 0.97


def _pair(only_ours: int, only_theirs: int, both: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    ours = np.repeat([True, False, True, False], [only_ours, only_theirs, both, neither])
    theirs = np.repeat([False, True, True, False], [only_ours, only_theirs, both, neither])
    return ours, theirs


def test_the_paired_interval_equals_a_bootstrap_that_loops_over_images():
    ours, theirs = _pair(60, 30, 80, 30)
    found = compare(ours, theirs, np.zeros(200, dtype=int), 20_000, 0)
    generator = np.random.default_rng(1)
    rows = generator.integers(0, 200, size=(20_000, 200))
    draws = ours[rows].mean(axis=1) - theirs[rows].mean(axis=1)
    assert found.delta == pytest.approx(0.15)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.006)
    assert found.verdict == "better"


def test_mcnemar_equals_the_binomial_sum():
    from math import comb

    found = compare(*_pair(9, 2, 50, 39), np.zeros(100, dtype=int), 1000, 0)
    assert found.p == pytest.approx(2 * sum(comb(11, i) for i in range(3)) / 2**11)


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [((0, 0, 5, 5), "tie"), ((20, 22, 50, 50), "tie"), ((40, 5, 50, 50), "better"), ((5, 40, 50, 50), "worse")],
)
def test_the_verdict_follows_the_disagreements(counts, verdict):
    ours, theirs = _pair(*counts)
    assert compare(ours, theirs, np.zeros(len(ours), dtype=int), 2000, 0).verdict == verdict


def test_four_wins_out_of_four_are_still_a_tie():
    ours, theirs = _pair(4, 0, 500, 96)
    found = compare(ours, theirs, np.zeros(600, dtype=int), 10_000, 0)
    assert found.low > 0  # the bootstrap alone would say better
    assert found.p == pytest.approx(0.125)
    assert found.verdict == "tie"


def test_class_means_are_resampled_within_classes():
    labels = np.repeat([0, 1], [1000, 10])
    correct = np.concatenate([np.ones(1000, dtype=bool), np.array([True, False] * 5)])
    interval = accuracy_interval(correct, groups_of("mean_class", labels), 20_000, 0)
    # class 0 is always right, class 1 is a coin over 10 images: half of a binomial's quantiles
    assert interval.low == pytest.approx((1 + 0.2) / 2, abs=0.03)
    assert interval.high == pytest.approx((1 + 0.8) / 2, abs=0.03)
    comparison = compare(correct, ~correct, groups_of("mean_class", labels), 1000, 0)
    assert comparison.delta == pytest.approx(0.5)
    assert comparison.p is None


def test_the_same_seed_gives_the_same_interval():
    ours, theirs = _pair(30, 20, 100, 50)
    groups = np.arange(200) % 3
    assert compare(ours, theirs, groups, 500, 7) == compare(ours, theirs, groups, 500, 7)
    assert compare(ours, theirs, groups, 500, 7) != compare(ours, theirs, groups, 500, 8)
