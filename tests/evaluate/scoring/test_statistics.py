import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvd_evaluate.contracts import Measurement
from lvd_evaluate.scoring.metrics import groups_of
from lvd_evaluate.scoring.statistics import (
    accuracy_interval,
    compare,
    compare_measurements,
    measurement_interval,
    measurement_value,
    wilson_interval,
)


@settings(deadline=None)
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


def _mean(values, **options):
    values = np.asarray(values, dtype=np.float64)[:, None]
    return Measurement("rmse", values, np.ones_like(values), **options)


def test_a_share_of_units_gets_the_same_statistics_as_predictions():
    generator = np.random.default_rng(0)
    ours, theirs = generator.random(300) < 0.7, generator.random(300) < 0.5
    groups = np.zeros(300, dtype=np.int64)
    assert measurement_interval(_mean(ours), 500, 1) == accuracy_interval(ours, groups, 500, 1)
    assert compare_measurements(_mean(ours), _mean(theirs), 500, 1) == compare(ours, theirs, groups, 500, 1)


def test_the_value_is_the_mean_over_groups_of_summed_ratios_absent_groups_left_out():
    intersection = np.array([[3.0, 0, 0], [1, 2, 0]])
    union = np.array([[4.0, 0, 0], [4, 4, 0]])
    assert measurement_value(Measurement("miou", intersection, union)) == pytest.approx((4 / 8 + 2 / 4) / 2)
    assert np.isnan(measurement_value(Measurement("miou", intersection[:, 2:], union[:, 2:])))


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(0).normal(3, 1, 400)
    interval = measurement_interval(_mean(values, unit="m", higher_is_better=False), 4000, 0)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.low == pytest.approx(values.mean() - half, abs=0.015)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.015)
    assert "400 units" in interval.method


def test_paired_differences_are_narrower_than_the_spread_of_units_and_know_which_way_is_better():
    generator = np.random.default_rng(1)
    theirs = generator.normal(3, 1, 200)
    ours = theirs - 0.05 + generator.normal(0, 0.02, 200)
    lower = {"unit": "m", "higher_is_better": False}
    found = compare_measurements(_mean(ours, **lower), _mean(theirs, **lower), 2000, 0)
    assert found.verdict == "better"
    assert found.delta == pytest.approx((ours - theirs).mean())
    assert found.low < found.delta < found.high < 0
    assert compare_measurements(_mean(theirs, **lower), _mean(ours, **lower), 2000, 0).verdict == "worse"
    assert compare_measurements(_mean(ours, **lower), _mean(ours, **lower), 2000, 0).verdict == "tie"


def test_resamples_without_a_unit_that_counts_leave_the_interval():
    counts = np.array([[1.0], [1], [0], [0], [0], [0]])  # two queries of six have something to find
    ours = Measurement("map", np.array([[0.3], [0.5], [0], [0], [0], [0]]), counts)
    theirs = Measurement("map", np.array([[0.2], [0.3], [0], [0], [0], [0]]), counts)
    interval = measurement_interval(ours, 1000, 0)
    assert (interval.low, interval.high) == pytest.approx((0.3, 0.5))
    found = compare_measurements(ours, theirs, 1000, 0)
    assert (found.delta, found.low, found.high) == pytest.approx((0.15, 0.1, 0.2))
    assert found.verdict == "better"
