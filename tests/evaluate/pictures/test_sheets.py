import io

import numpy as np
from PIL import Image

from lvd_evaluate.pictures.sheets import GAP, colour_scale, draw_matches, enlarge, sheet


def _open(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_token_becomes_a_square_that_lies_where_it_was_seen():
    tokens = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    panel = enlarge(np.zeros((28, 42, 3), np.uint8), 20)
    assert panel.shape == (20, 30, 3)
    drawn = enlarge(tokens, 20, like=panel)
    assert drawn.shape == panel.shape
    assert (drawn[10:, 20:] == tokens[1, 2]).all()


def test_a_scale_runs_from_dark_to_bright():
    colours = colour_scale(np.linspace(0, 1, 200).reshape(10, 20)).astype(int)
    assert colours[0, 0].sum() < 30
    assert colours[-1, -1].sum() > 600
    assert (colour_scale(np.full((2, 2), 7.0)) == colour_scale(np.zeros((2, 2)))).all()


def test_rows_of_panels_stand_on_white():
    red, blue = np.full((4, 6, 3), (255, 0, 0), np.uint8), np.full((4, 3, 3), (0, 0, 255), np.uint8)
    picture = _open(sheet([[red, blue], [blue]]))
    assert picture.shape == (4 + GAP + 4, 6 + GAP + 3, 3)
    assert (picture[:4, :6] == (255, 0, 0)).all()
    assert (picture[:4, 6 + GAP :] == (0, 0, 255)).all()
    assert (picture[4 + GAP :, :3] == (0, 0, 255)).all()
    assert (picture[4 : 4 + GAP] == 255).all()


def test_a_line_runs_from_its_start_to_its_end():
    first, second = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 60, 3), np.uint8)
    picture = _open(draw_matches(first, second, [((0.5, 0.25), (0.5, 0.5))]))
    assert picture.shape == (40, 40 + GAP + 60, 3)
    assert picture[20, 10:70].any(axis=1).all()
    assert not picture[:, :5].any()
    assert not picture[:, 82:].any()
    assert not _open(draw_matches(first, second, []))[:, :40].any()
