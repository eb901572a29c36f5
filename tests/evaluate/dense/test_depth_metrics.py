import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvd_evaluate.dense.depth_metrics import METRICS, compute_depth_metrics, to_measurements, valid_pixels


def by_name(prediction, truth):
    return dict(zip(METRICS, compute_depth_metrics(np.asarray(prediction), np.asarray(truth)), strict=True))


def value(measurement):
    return (measurement.numerators.sum(0) / measurement.denominators.sum(0)).mean()


def test_metrics_of_two_pixels_by_hand():
    found = by_name([1.0, 3.0], [2.0, 2.0])
    assert found == pytest.approx(
        {
            "rmse": 1.0,
            "abs_rel": 0.5,
            "sq_rel": 0.5,
            "rmse_log": np.sqrt((np.log(2) ** 2 + np.log(1.5) ** 2) / 2),
            "log10": (np.log10(2) + np.log10(1.5)) / 2,
            "silog": 100 * (np.log(1.5) + np.log(2)) / 2,
            "delta1": 0.0,
            "delta2": 0.5,
            "delta3": 0.5,
        }
    )


@given(st.floats(1.01, 3.0), st.integers(0, 100))
def test_a_common_factor_has_closed_forms(factor, seed):
    truth = np.random.default_rng(seed).uniform(0.5, 9, 50)
    found = by_name(factor * truth, truth)
    assert found["abs_rel"] == pytest.approx(factor - 1)
    assert found["rmse_log"] == pytest.approx(np.log(factor))
    assert found["log10"] == pytest.approx(np.log10(factor))
    assert found["silog"] == pytest.approx(0, abs=1e-5)
    assert found["rmse"] == pytest.approx((factor - 1) * np.sqrt((truth**2).mean()))
    assert found["sq_rel"] == pytest.approx((factor - 1) ** 2 * truth.mean())


def test_per_image_means_are_not_pooled_ones():
    truths = [np.full(100, 2.0), np.full(100, 8.0)]
    predictions = [np.full(100, 2.1), np.full(100, 6.0)]
    values = np.stack([compute_depth_metrics(p, t) for p, t in zip(predictions, truths, strict=True)])
    pooled = by_name(np.concatenate(predictions), np.concatenate(truths))["rmse"]
    per_image = value(to_measurements(values)[0])
    assert per_image == pytest.approx((0.1 + 2.0) / 2)
    assert pooled == pytest.approx(np.sqrt((0.01 + 4) / 2))


def test_images_without_truth_do_not_count_but_keep_their_place():
    values = np.stack(
        [compute_depth_metrics(np.array([1.0]), np.array([2.0])), compute_depth_metrics(*np.empty((2, 0)))]
    )
    for measurement in to_measurements(values):
        assert measurement.numerators.shape == (2, 1)
        assert measurement.denominators.ravel().tolist() == [1, 0]
    assert value(to_measurements(values)[0]) == 1.0
    names = {m.metric: (m.unit, m.higher_is_better) for m in to_measurements(values)}
    assert names["rmse"] == ("m", False)
    assert names["delta1"] == ("", True)


def test_limits_are_strict_and_nothing_read_never_counts():
    truth = np.array([[0.0, 1e-3, 0.5, 10.0, 12.0]], dtype=np.float32)
    assert valid_pixels(truth, float(np.float32(1e-3)), 10.0, "none").tolist() == [[False, False, True, False, False]]


@pytest.mark.parametrize(
    ("crop", "shape", "rectangle"),
    [
        ("eigen", (480, 640), (45, 471, 41, 601)),
        ("garg", (352, 1216), (143, 349, 43, 1172)),
        ("none", (5, 4), (0, 5, 0, 4)),
    ],
)
def test_crops_cut_the_published_rectangles(crop, shape, rectangle):
    inside = valid_pixels(np.ones(shape), 1e-3, 10.0, crop)
    rows, columns = np.nonzero(inside)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == rectangle
    assert inside.sum() == (rectangle[1] - rectangle[0]) * (rectangle[3] - rectangle[2])
