import io

import numpy as np
from PIL import Image

from lvd_evaluate.contracts import VOID
from lvd_evaluate.dense.pictures import class_colours, colour_classes, side_by_side


def test_classes_have_colours_of_their_own_that_stay():
    colours = class_colours(150)
    assert len({tuple(colour) for colour in colours}) == 150
    assert np.array_equal(class_colours(11), colours[:11])
    assert colours.sum(axis=1).min() > 60  # black is void's
    near = np.abs(colours[:20, None].astype(int) - colours[None, :20]).sum(axis=2) + 999 * np.eye(20, dtype=int)
    assert near.min() > 40


def test_void_is_black():
    drawn = colour_classes(np.array([[0, VOID], [2, 1]]), 3)
    assert drawn.dtype == np.uint8
    assert drawn[0, 1].tolist() == [0, 0, 0]
    assert np.array_equal(drawn[1, 0], class_colours(3)[2])


def test_panels_stand_side_by_side():
    panels = [np.full((5, 7, 3), shade, np.uint8) for shade in (10, 20, 30)]
    with Image.open(io.BytesIO(side_by_side(panels))) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (5, 29, 3)
    assert [pixels[0, column, 0] for column in (0, 8, 11, 28)] == [10, 255, 20, 30]
