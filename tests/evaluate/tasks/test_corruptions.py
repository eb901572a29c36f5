import io

import numpy as np
import pytest
from PIL import Image

from lvd_evaluate.config.classifiers import CORRUPTIONS
from lvd_evaluate.tasks.corruptions import ALEXNET_ERRORS, SEVERITIES, corrupt


def _picture() -> np.ndarray:
    """Smooth colours with an edge."""
    x = np.linspace(30, 220, 48)
    pixels = np.stack([np.tile(x, (40, 1)), np.tile(x[::-1], (40, 1)), np.full((40, 48), 90.0)], axis=2)
    pixels[10:20, 10:30] = 250
    return pixels.astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_severity_is_further_from_the_image(name):
    image = _picture()
    found = [corrupt(image, name, severity, np.random.default_rng(0)) for severity in SEVERITIES]
    distances = [np.abs(part.astype(float) - image).mean() for part in found]
    assert distances == sorted(distances)
    assert distances[0] > 0.5
    for part in found:
        assert (part.shape, part.dtype) == (image.shape, np.uint8)


def test_corruptions_are_what_they_say():
    image, generator = _picture(), np.random.default_rng(0)
    flat = corrupt(image, "contrast", 5, generator)
    assert np.allclose(flat.astype(float) - flat.mean(axis=(0, 1)), 0.05 * (image - image.mean(axis=(0, 1))), atol=1.01)
    grey = np.full((200, 200, 3), 128, dtype=np.uint8)
    assert np.std(corrupt(grey, "noise", 1, generator) / 255) == pytest.approx(0.08, rel=0.03)
    spot = np.zeros((61, 61, 3), dtype=np.uint8)
    spot[20:41, 20:41] = 255
    blurred = corrupt(spot, "blur", 3, generator).astype(float)
    assert blurred.sum() == pytest.approx(spot.sum(), rel=0.02)
    assert blurred[30, 20].max() == pytest.approx(144, abs=4)  # half a pixel inside an edge, deviation 3
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=15)
    assert np.array_equal(corrupt(image, "jpeg", 3, generator), np.asarray(Image.open(buffer)))


def test_alexnets_errors_are_those_of_imagenet_cs_fifteen_corruptions():
    assert len(ALEXNET_ERRORS) == 15
    assert all(0.5 < error < 0.95 for error in ALEXNET_ERRORS.values())
    assert not set(ALEXNET_ERRORS) >= set(CORRUPTIONS)  # ours are no ImageNet-C
