import torch

from lvd_evaluate.encoders.pixels import load_pixels


def test_pixels_are_the_image_itself():
    encoder = load_pixels("pixels:4", "4", torch.device("cpu"))
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    (tokens,) = encoder.encode(images, 4)
    assert torch.equal(tokens.cls, images.flatten(1).float() / 255)
    assert tokens.patches is None
    assert (encoder.image_size, encoder.resize_size) == (4, 4)  # a 4-pixel image passes through untouched


def test_the_default_is_32_pixels():
    assert load_pixels("pixels", "", torch.device("cpu")).image_size == 32
