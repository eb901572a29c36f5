import numpy as np
import pytest
import torch
from PIL import Image

from lvd_evaluate.config import DepthConfig
from lvd_evaluate.dense.depth_images import AugmentDepth, PrepareDepth, crop_size, cut_region, fit_to_cells
from lvd_evaluate.errors import InputError


def draw(height=40, width=56):
    """An image whose red and green tell the place of each pixel, and a depth map that tells it too."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 4, columns * 4, np.zeros_like(rows)], axis=2).astype(np.uint8)
    return Image.fromarray(image), (1 + rows + 100 * columns).astype(np.float32)


def places(depth):
    columns, rows = np.divmod(depth - 1, 100)
    return rows, columns


@pytest.mark.parametrize("seed", range(8))
def test_image_and_depth_stay_in_step_and_depth_is_never_mixed(seed):
    image, depth = draw()
    augment = AugmentDepth((32, 44), "none", None)
    pixels, metres = augment(image, depth, np.random.default_rng(seed))
    assert pixels.shape == (3, 32, 44)
    assert metres.shape == (32, 44)
    found = metres.numpy()
    assert set(np.unique(found)) <= {0.0, *np.unique(depth)}  # nearest, or nothing
    rows, columns = places(found[found > 0])
    red, green = (channel.numpy()[found > 0].astype(float) for channel in pixels[:2])
    for shown, place in ((red, rows), (green, columns)):  # colours are distorted, their order is not
        assert np.corrcoef(shown, place)[0, 1] > 0.99


def test_turning_invalidates_corners_and_the_same_draw_gives_the_same_sample():
    image, depth = draw(60, 80)
    augment = AugmentDepth((60, 80), "none", None)
    samples = [augment(image, depth, np.random.default_rng(seed)) for seed in range(12)]
    holes = [int((metres == 0).sum()) for _, metres in samples]
    assert 0 in holes
    assert max(holes) > 0
    corner = samples[int(np.argmax(holes))][1]
    assert 0 in (corner[0, 0], corner[0, -1], corner[-1, 0], corner[-1, -1])
    again = augment(image, depth, np.random.default_rng(3))
    assert all(torch.equal(one, other) for one, other in zip(again, samples[3], strict=True))
    assert not torch.equal(samples[3][0], samples[4][0])


def test_images_smaller_than_the_crop_are_enlarged():
    pixels, metres = AugmentDepth((64, 60), "none", None)(*draw(), np.random.default_rng(0))
    assert pixels.shape == (3, 64, 60)
    assert metres.shape == (64, 60)


def test_the_truth_of_test_images_is_never_resized():
    image, depth = draw()
    pixels, metres = PrepareDepth("none", 20)(image, depth)
    assert pixels.shape == (3, 20, 28)
    assert np.array_equal(metres.numpy(), depth)


def test_regions_are_the_conventions_of_their_data_sets():
    image, depth = torch.zeros(3, 480, 640, dtype=torch.uint8), torch.from_numpy(draw(480, 640)[1])
    inner = cut_region(image, depth, "nyu", training=True)[1]
    assert inner.shape == (427, 565)
    assert inner[0, 0] == depth[45, 43]
    assert cut_region(image, depth, "nyu", training=False)[1].shape == (480, 640)
    image, depth = torch.zeros(3, 375, 1242, dtype=torch.uint8), torch.from_numpy(draw(375, 1242)[1])
    for training in (True, False):
        inner = cut_region(image, depth, "kb", training=training)[1]
        assert inner.shape == (352, 1216)
        assert inner[-1, 0] == depth[-1, 13]
    with pytest.raises(InputError, match="640x480"):
        cut_region(image, depth, "nyu", training=True)
    with pytest.raises(InputError, match="1216x352"):
        cut_region(image[:, :100], depth[:100], "kb", training=True)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, (466, 621)),
        ({"region": "nyu"}, (414, 548)),
        ({"short_side": 240}, (233, 310)),
        ({"crop": (416, 544)}, (416, 544)),
    ],
)
def test_crops_are_those_asked_for_or_nearly_the_whole_image(settings, size):
    assert crop_size(480, 640, DepthConfig(**settings)) == size


def test_sides_become_multiples_by_resizing_or_by_the_mean_colour_around():
    images = torch.full((2, 3, 30, 45), 51, dtype=torch.uint8)
    resized = fit_to_cells(images, 14, "resize", (0.5, 0.5, 0.5))
    assert resized.shape == (2, 3, 28, 42)
    torch.testing.assert_close(resized, torch.full_like(resized, 0.2))
    padded = fit_to_cells(images, 14, "pad", (0.4, 0.5, 0.6))
    assert padded.shape == (2, 3, 42, 56)
    torch.testing.assert_close(padded[:, :, 6:36, 5:50], torch.full((2, 3, 30, 45), 0.2))
    torch.testing.assert_close(padded[0, :, 0, 0], torch.tensor([0.4, 0.5, 0.6]))
    exact = torch.randint(0, 255, (1, 3, 28, 14), dtype=torch.uint8)
    for how in ("resize", "pad"):
        torch.testing.assert_close(fit_to_cells(exact, 14, how, (0.5, 0.5, 0.5)), exact / 255)
