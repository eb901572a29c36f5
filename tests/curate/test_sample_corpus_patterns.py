import itertools

import numpy as np
import pytest

from lvd_curate.sample_corpus.patterns import PATTERNS

SIDE = np.linspace(-3, 3, 385, dtype=np.float32)
P, Q = np.meshgrid(SIDE, SIDE)
PERIODS = {"dots": (1, 2), "stripes": (1, 1), "checks": (1, 1), "zigzag": (1, 2), "scales": (1, 2), "lattice": (1, 1)}


@pytest.mark.parametrize("name", PATTERNS)
def test_both_paints_are_seen(name):
    field = PATTERNS[name](P, Q)
    assert field.dtype == np.float32
    assert 0.15 < np.mean(field > 0) < 0.85


@pytest.mark.parametrize("name", PATTERNS)
def test_field_is_about_the_distance_to_the_edge_of_the_paint(name):
    """Slope 1 per period near the edges, within a factor of two, but for the few places where cells meet."""
    field = PATTERNS[name](P, Q)
    slope = np.hypot(*np.gradient(field)) / (SIDE[1] - SIDE[0])
    edge = (np.abs(field) < 0.03) & (np.hypot(P, Q) > 0.7)  # rays and spirals are drawn together in their middle
    assert np.mean((slope[edge] > 0.4) & (slope[edge] < 2.1)) > 0.8


@pytest.mark.parametrize(("name", "period"), PERIODS.items())
def test_period(name, period):
    across, down = period
    field = PATTERNS[name](P, Q)
    np.testing.assert_allclose(PATTERNS[name](P + across, Q), field, atol=1e-4)
    np.testing.assert_allclose(PATTERNS[name](P, Q + down), field, atol=1e-4)


def test_random_patterns_are_the_same_every_time_and_do_not_repeat():
    for name in ("speckle", "maze"):
        field = PATTERNS[name](P, Q)
        np.testing.assert_array_equal(PATTERNS[name](P.copy(), Q.copy()), field)
        assert np.abs(PATTERNS[name](P + 1, Q) - field).max() > 0.1


def test_no_two_patterns_look_alike():
    paints = {name: np.sign(PATTERNS[name](P, Q)).ravel() for name in PATTERNS}
    for (a, first), (b, second) in itertools.combinations(paints.items(), 2):
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.7, f"{a} and {b}"
