import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lvd_evaluate.classifiers.views import draw_box, random_view


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 10_000))
def test_crops_lie_inside_the_image(width, height, seed):
    left, top, right, bottom = draw_box(width, height, np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_crops_cover_8_to_100_percent_at_ratios_around_one():
    boxes = [draw_box(300, 200, np.random.default_rng(seed)) for seed in range(2000)]
    areas = np.array([(right - left) * (bottom - top) / 60_000 for left, top, right, bottom in boxes])
    ratios = np.array([(right - left) / (bottom - top) for left, top, right, bottom in boxes])
    assert 0.075 < areas.min() < 0.1
    assert areas.max() > 0.85
    assert 0.73 < ratios.min() < 0.78
    assert 1.3 < ratios.max() < 1.37


@pytest.mark.parametrize("size", [(1000, 10), (10, 1000)])
def test_where_no_draw_fits_the_crop_is_torchvisions(size):
    from torchvision.transforms import RandomResizedCrop

    image = Image.new("RGB", size)
    top, left, height, width = RandomResizedCrop.get_params(image, scale=(1.0, 1.0), ratio=(3 / 4, 4 / 3))
    assert draw_box(*size, np.random.default_rng(1)) == (left, top, left + width, top + height)


def test_a_view_is_the_crop_resized_and_sometimes_flipped():
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    image, flips = Image.fromarray(pixels), 0
    for seed in range(20):
        view = random_view(image, 16, np.random.default_rng(seed))
        box = draw_box(60, 40, np.random.default_rng(seed))
        plain = np.asarray(image.crop(box).resize((16, 16), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        flipped = np.array_equal(view, plain[:, :, ::-1])
        assert flipped or np.array_equal(view, plain)
        flips += flipped
    assert 4 <= flips <= 16
