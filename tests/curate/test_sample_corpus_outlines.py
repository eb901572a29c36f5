import itertools

import numpy as np
import pytest
from scipy import ndimage

from lvd_curate.sample_corpus.outlines import OUTLINES, REACH, outline_area

SIDE = np.linspace(-1.6, 1.6, 321, dtype=np.float32)
U, V = np.meshgrid(SIDE, SIDE)


@pytest.mark.parametrize("name", OUTLINES)
def test_outline_is_one_piece_within_reach(name):
    level = OUTLINES[name](U, V)
    inside = level < 0
    assert ndimage.label(inside)[1] == 1
    assert np.hypot(U, V)[inside].max() <= REACH
    assert level.dtype == np.float32
    assert -1.01 <= level.min() < -0.9  # the deepest inside is -1, so that relief means the same for all


@pytest.mark.parametrize("name", OUTLINES)
def test_level_falls_evenly_enough_to_soften_the_edge(name):
    """The renderer takes level / slope for a distance: the contour has a slope, and no cliff, nearly everywhere."""
    level = OUTLINES[name](U, V)
    slope = np.hypot(*np.gradient(level)) / (SIDE[1] - SIDE[0])
    near = np.abs(level / np.maximum(slope, 1e-6)) < 0.02
    assert np.mean((slope[near] > 0.4) & (slope[near] < 12)) > 0.95


@pytest.mark.parametrize(("name", "area"), [("disc", np.pi), ("square", 2.0), ("ring", np.pi * (1 - 0.16))])
def test_area_of_known_shapes(name, area):
    assert outline_area(name) == pytest.approx(area, rel=0.02)


def test_no_two_outlines_look_alike():
    shapes = {name: OUTLINES[name](U, V) < 0 for name in OUTLINES}
    for (a, first), (b, second) in itertools.combinations(shapes.items(), 2):
        overlap = (first & second).sum() / (first | second).sum()
        assert overlap < 0.9, f"{a} and {b}"
