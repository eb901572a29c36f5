import io

import numpy as np
from PIL import Image

from lvd_evaluate.dense.depth_pictures import colour_depth, draw_depth


def test_truth_and_prediction_share_one_scale_and_the_unknown_is_black():
    truth = np.linspace(1, 3, 60 * 40).reshape(60, 40)
    prediction = truth.copy()
    truth[:10, :10] = 0
    picture = np.asarray(Image.open(io.BytesIO(draw_depth(np.full((60, 40, 3), 9, np.uint8), truth, prediction))))
    panels = [picture[:, start : start + 40] for start in (0, 44, 88)]
    assert (panels[0] == 9).all()
    assert (panels[1][:10, :10] == 0).all()
    assert np.array_equal(panels[1][10:], panels[2][10:])
    assert picture.shape[1] > 3 * 44 + 40  # the bar


def test_near_is_bright_and_what_lies_beyond_the_scale_is_cut():
    colours = colour_depth(np.array([1.0, 2.0, 3.0, 9.0]), 1.0, 3.0).astype(int).sum(axis=1)
    assert colours[0] > colours[1] > colours[2] == colours[3]


def test_a_map_without_truth_is_drawn_all_the_same():
    picture = draw_depth(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20)), np.full((20, 20), 2.0))
    assert Image.open(io.BytesIO(picture)).height == 20
