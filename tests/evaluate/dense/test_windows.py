import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lvd_evaluate.dense.windows import average_windows, read_patches, upsample, window_starts
from lvd_evaluate.encoders.pixels import PixelEncoder
from lvd_evaluate.errors import InputError


@given(st.integers(1, 300), st.integers(1, 80), st.integers(1, 80))
def test_windows_cover_every_pixel_and_stay_inside(length, window, stride):
    stride = min(stride, window)
    starts = window_starts(length, window, stride)
    seen = np.zeros(max(length, window), bool)
    for start in starts:
        seen[start : start + window] = True
    assert seen.all()
    assert starts == sorted(set(starts))
    assert starts[-1] + window == max(length, window)


def test_windows_of_the_released_procedure():
    assert window_starts(683, 512, 341) == [0, 171]
    assert window_starts(1280, 640, 320) == [0, 320, 640]


@settings(deadline=None, max_examples=20)
@given(st.integers(5, 40), st.integers(5, 40), st.integers(3, 8))
def test_averaging_what_every_window_says_of_itself_gives_the_image_back(height, width, stride):
    image = torch.randint(
        0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(height)
    )
    scores = average_windows(image, 8, stride, (0.0, 0.0, 0.0), lambda windows: windows.float())
    torch.testing.assert_close(scores, image.float())


def test_overlaps_are_means():
    counter = iter(range(9))
    scores = average_windows(
        torch.zeros(3, 4, 6, dtype=torch.uint8),
        4,
        2,
        (0.0, 0.0, 0.0),
        lambda windows: torch.stack([torch.full((1, 2, 2), float(next(counter))) for _ in windows]),
    )
    assert scores[0, 0].tolist() == [0, 0, 0.5, 0.5, 1, 1]


def test_images_that_patches_do_not_tile_lie_in_the_middle_of_the_mean_colour():
    encoder = PixelEncoder("pixels:8", 8, torch.device("cpu"))
    encoder.mean = (0.25, 0.5, 0.75)
    image = torch.full((1, 3, 6, 8), 255, dtype=torch.uint8)
    patches = read_patches(encoder, image, 1, "float32")  # [1, 2, 2, 48]
    assert patches.shape == (1, 2, 2, 48)
    whole = F.pixel_shuffle(patches.permute(0, 3, 1, 2), 4)[0]  # [3, 8, 8]
    assert whole[:, 0, 0].tolist() == [0.25, 0.5, 0.75]
    assert whole[:, 7, 0].tolist() == [0.25, 0.5, 0.75]
    assert (whole[:, 1:7] == 1).all()


def test_layers_are_concatenated(colour_encoder):
    colour_encoder.patch_size = 8
    colour_encoder.at_size = lambda height, width: colour_encoder
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    assert read_patches(colour_encoder, images, 4, "float32").shape == (2, 2, 2, 12)


def test_encoders_without_patches_are_refused(colour_encoder):
    colour_encoder.patch_size = None
    with pytest.raises(InputError, match="no patch tokens"):
        read_patches(colour_encoder, torch.zeros(1, 3, 16, 16, dtype=torch.uint8), 1, "float32")


def test_upsampling_and_a_1x1_convolution_commute():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 16, 5, 7, generator=generator)
    convolution = torch.nn.Conv2d(16, 3, 1)
    first = upsample(convolution(tokens), (35, 49))
    last = convolution(upsample(tokens, (35, 49)))
    torch.testing.assert_close(first, last, atol=1e-5, rtol=1e-5)


def test_upsampling_keeps_tokens_over_their_own_pixels():
    assert upsample(torch.tensor([[[[0.0, 1.0]]]]), (1, 4)).flatten().tolist() == [0.0, 0.25, 0.75, 1.0]
