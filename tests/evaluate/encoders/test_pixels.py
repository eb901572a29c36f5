import torch

from lvd_evaluate.encoders.pixels import load_pixels


def test_pixels_are_the_image_itself():
    encoder = load_pixels("pixels:4", "4", torch.device("cpu"))
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    (tokens,) = encoder.encode(images, 4)
    assert torch.equal(tokens.cls, images.flatten(1).float() / 255)
    assert tokens.patches.shape == (2, 1, 1, 48)
    assert (encoder.image_size, encoder.resize_size) == (4, 4)  # a 4-pixel image passes through untouched


def test_the_default_is_32_pixels():
    assert load_pixels("pixels", "", torch.device("cpu")).image_size == 32


def test_a_patch_token_is_the_colours_of_its_square_at_any_size():
    images = torch.rand(1, 3, 8, 12)
    encoder = load_pixels("pixels", "", torch.device("cpu"))
    (tokens,) = encoder.at_size(8, 12).encode(images, [0], normed=False)
    assert encoder.patch_size == 4
    assert tokens.patches.shape == (1, 2, 3, 48)
    assert torch.equal(tokens.patches[0, 1, 2].view(3, 4, 4), images[0, :, 4:8, 8:12])


def test_a_size_that_fours_do_not_tile_gets_smaller_patches():
    assert [load_pixels("pixels", str(size), torch.device("cpu")).patch_size for size in (30, 7)] == [2, 1]
