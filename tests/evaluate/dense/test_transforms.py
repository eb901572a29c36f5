import numpy as np
import pytest
import torch
from PIL import Image

from lvd_evaluate.contracts import VOID
from lvd_evaluate.dense.transforms import (
    crop,
    distort_colours,
    draw_crop,
    fit_short_side,
    flip,
    pad,
    resize,
    resize_target,
    to_tensors,
    turn,
)
from lvd_evaluate.errors import InputError


def stripes(height=24, width=36, dtype=np.int64):
    """An image whose red says the target's value of the same pixel, times 20."""
    target = np.broadcast_to(np.arange(width) // 6, (height, width)).astype(dtype)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = target * 20
    return to_tensors(Image.fromarray(pixels), target)


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_image_and_target_stay_in_step(dtype):
    image, target = stripes(dtype=dtype)
    generator = np.random.default_rng(0)
    image, target = resize(image, (48, 72)), resize_target(target, (48, 72))
    image, target = crop(image, target, draw_crop(target, (30, 40), generator))
    image, target = flip(image, target)
    assert image.shape == (3, 30, 40)
    assert target.shape == (30, 40)
    assert image.dtype == torch.uint8
    assert target.dtype == torch.from_numpy(np.zeros(1, dtype)).dtype
    agree = (image[0].float() / 20 - target).abs() < 0.4
    assert agree.all()  # borders are blurred by a quarter of a step
    assert target.diff(dim=1).le(0).all()  # flipped: falling from left to right


def test_targets_never_get_values_between_two_classes():
    image, target = stripes()
    target[target == 2] = VOID
    assert set(resize_target(target, (31, 57)).unique().tolist()) <= {VOID, 0, 1, 3, 4, 5}
    assert len(resize(image, (31, 57)).unique()) > 6  # the image does


def test_pad_fills_right_and_bottom_with_what_does_not_count():
    image, target = pad(*stripes(), (30, 40), (1, 2, 3), VOID)
    assert image.shape == (3, 30, 40)
    assert (target[24:] == VOID).all()
    assert (target[:, 36:] == VOID).all()
    assert image[:, 29, 39].tolist() == [1, 2, 3]
    assert (target[:24, :36] == stripes()[1]).all()


def test_crop_avoids_places_of_one_class_where_it_can():
    target = torch.zeros(64, 64, dtype=torch.int64)
    target[:, 32:] = 1
    boxes = [draw_crop(target, (16, 16), np.random.default_rng(seed), max_share=0.75) for seed in range(40)]
    mixed = [(target[t : t + h, left : left + w] == 1).float().mean().item() for t, left, h, w in boxes]
    assert sum(0.25 < share < 0.75 for share in mixed) > 30  # by chance: 7 of 40
    assert (
        draw_crop(torch.zeros(64, 64, dtype=torch.int64), (16, 99), np.random.default_rng(0), max_share=0.75)[3] == 64
    )


def test_turning_makes_the_corners_count_no_more():
    image, target = stripes(dtype=np.float32)
    turned, depth = turn(image, target + 1, 20.0, (0, 0, 0), 0.0)
    assert depth.shape == (24, 36)
    assert turned.shape == image.shape
    assert depth[0, 0] == 0
    assert depth[12, 18] == target[12, 18] + 1
    assert set(depth.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0}


def test_colours_depend_on_the_generator_alone():
    image = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first = [distort_colours(image, np.random.default_rng(seed)) for seed in range(8)]
    torch.manual_seed(5)
    again = [distort_colours(image, np.random.default_rng(seed)) for seed in range(8)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert sum(not torch.equal(result, image) for result in first) >= 6
    assert all(result.dtype == torch.uint8 for result in first)


def test_short_side():
    assert fit_short_side(360, 480, 512) == (512, 683)
    assert fit_short_side(480, 360, 14) == (19, 14)
    with pytest.raises(InputError, match="at short side 512"):
        fit_short_side(1, 2000, 512)
