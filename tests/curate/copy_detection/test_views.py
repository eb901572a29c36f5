import numpy as np
import pytest

from lvd_curate.copy_detection.views import MIRROR, VIEWS, cut, look_through, turn


def test_the_first_view_is_the_whole_thumbnail() -> None:
    np.testing.assert_array_equal(look_through(VIEWS[0]), np.eye(1024))


@pytest.mark.parametrize("view", [*VIEWS, *(VIEWS * MIRROR)])
def test_every_view_averages_pixels(view: np.ndarray) -> None:
    matrix = look_through(view)
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix.sum(axis=1), 1)


def test_a_cut_to_a_corner_sees_that_corner_larger() -> None:
    down, right = np.indices((32, 32))
    seen = (look_through(cut(0.5, right=1, down=-1)) @ np.stack([right.ravel(), down.ravel()], axis=1)).reshape(
        32, 32, 2
    )
    assert seen[0, 0, 0] == pytest.approx(15.75, abs=0.3)
    assert seen[-1, -1, 0] == pytest.approx(31, abs=0.3)
    assert seen[-1, -1, 1] == pytest.approx(15.25, abs=0.3)


def test_mirroring_a_view_mirrors_what_it_sees() -> None:
    thumbnail = np.random.default_rng(0).uniform(size=1024)
    for view in (cut(0.8, 1, 1), turn(4)):
        plain, mirrored = (look_through(way) @ thumbnail for way in (view, view * MIRROR))
        np.testing.assert_allclose(mirrored.reshape(32, 32), plain.reshape(32, 32)[:, ::-1])
