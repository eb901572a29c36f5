import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from lvd_pretrain.augment import (
    BRIGHTNESS,
    CONTRAST,
    GRAY,
    HUE,
    SATURATION,
    SIGMA,
    SOLARIZE,
    Photometry,
    blur,
    draw_photometry,
    shift_hue,
)
from lvd_pretrain.config import AugmentConfig

PLAIN = AugmentConfig(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
CROPS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 24, 24), dtype=np.uint8))


def rows(**columns: float) -> torch.Tensor:
    table = torch.tensor([[1.0, 1, 1, 0, 0, 0, 0]]).repeat(len(CROPS), 1)
    for name, value in columns.items():
        table[:, globals()[name]] = value
    return table


def apply(**columns: float) -> torch.Tensor:
    return Photometry(PLAIN, torch.device("cpu"))(CROPS, rows(**columns))


IMAGES = CROPS.float() / 255


@pytest.mark.parametrize(
    ("columns", "oracle"),
    [
        ({}, lambda x: x),
        ({"BRIGHTNESS": 1.3}, lambda x: F.adjust_brightness(x, 1.3)),
        ({"CONTRAST": 0.6}, lambda x: F.adjust_contrast(x, 0.6)),
        ({"SATURATION": 1.2}, lambda x: F.adjust_saturation(x, 1.2)),
        ({"HUE": 0.1}, lambda x: F.adjust_hue(x, 0.1)),
        ({"HUE": -0.07}, lambda x: F.adjust_hue(x, -0.07)),
        ({"GRAY": 1.0}, lambda x: F.rgb_to_grayscale(x, num_output_channels=3)),
        ({"SIGMA": 1.1}, lambda x: F.gaussian_blur(x, 9, 1.1)),
        ({"SOLARIZE": 1.0}, lambda x: F.solarize(x, 128 / 255)),
    ],
    ids=lambda value: "+".join(value) or "nothing" if isinstance(value, dict) else "",
)
def test_each_operation_equals_torchvisions(columns, oracle):
    assert torch.allclose(apply(**columns), oracle(IMAGES), atol=2e-3)


def test_every_image_follows_its_own_row():
    table = rows()
    table[1, GRAY], table[2, SIGMA], table[3, HUE] = 1, 1.5, 0.2
    mixed = Photometry(PLAIN, torch.device("cpu"))(CROPS, table)
    assert torch.allclose(mixed[0], IMAGES[0], atol=1e-5)
    assert torch.allclose(mixed[1], apply(GRAY=1)[1], atol=1e-5)
    assert torch.allclose(mixed[2], apply(SIGMA=1.5)[2], atol=1e-5)
    assert torch.allclose(mixed[3], apply(HUE=0.2)[3], atol=1e-5)


def test_taking_all_images_through_every_operation_as_a_gpu_does_gives_the_same():
    rng = np.random.default_rng(1)
    crops = torch.from_numpy(rng.integers(0, 256, (60, 3, 24, 24), dtype=np.uint8))
    config = AugmentConfig(solarize=(0.3, 0.3, 0.3))
    table = torch.from_numpy(np.stack([draw_photometry(number % 3, config, rng) for number in range(60)]))
    photometry = Photometry(PLAIN, torch.device("cpu"))
    picked = photometry(crops, table)
    photometry.selective = False
    assert torch.allclose(photometry(crops, table), picked, atol=1e-6)
    # The same in memory as a worker sends it: channels last.
    assert torch.equal(photometry(crops.contiguous(memory_format=torch.channels_last), table), photometry(crops, table))


def test_normalisation_uses_the_configured_statistics():
    config = AugmentConfig()
    out = Photometry(config, torch.device("cpu"))(CROPS, rows())
    assert torch.allclose(out, F.normalize(IMAGES, list(config.mean), list(config.std)), atol=1e-5)


def test_a_full_turn_of_the_hue_changes_nothing_and_no_blur_is_exact():
    assert torch.allclose(shift_hue(IMAGES, torch.ones(4)), IMAGES, atol=1e-5)
    assert torch.allclose(blur(IMAGES, torch.zeros(4)), IMAGES, atol=1e-6)


def test_draws_follow_the_probabilities_of_their_view():
    rng = np.random.default_rng(0)
    drawn = np.stack([[draw_photometry(view, AugmentConfig(), rng) for view in (0, 1, 2)] for _ in range(2000)])
    assert (drawn[:, :, SIGMA] > 0).mean(0) == pytest.approx([1.0, 0.1, 0.5], abs=0.04)
    assert (drawn[:, :, SOLARIZE] > 0).mean(0) == pytest.approx([0.0, 0.2, 0.0], abs=0.04)
    assert (drawn[:, :, GRAY] > 0).mean() == pytest.approx(0.2, abs=0.02)
    assert (drawn[:, :, BRIGHTNESS] != 1).mean() == pytest.approx(0.8, abs=0.03)
    assert drawn[:, :, BRIGHTNESS].min() > 0.6
    assert drawn[:, :, CONTRAST].max() < 1.4
    assert np.abs(drawn[:, :, SATURATION] - 1).max() < 0.2
    assert np.abs(drawn[:, :, HUE]).max() < 0.1
