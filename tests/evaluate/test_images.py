import io

import numpy as np
import pytest
from PIL import Image

from lvd_evaluate import images
from lvd_evaluate.errors import InputError
from lvd_evaluate.images import decode_rgb, decode_values


def encode(image, kind="PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_becomes_rgb(mode):
    image = decode_rgb(encode(Image.new(mode, (5, 3))))
    assert (image.mode, image.size) == ("RGB", (5, 3))


def test_sixteen_bit_greys_are_scaled_not_clipped():
    content = encode(Image.fromarray(np.array([[0, 32896, 65535]], np.uint16)))
    assert np.asarray(decode_rgb(content))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, bool])
def test_values_are_those_stored(dtype):
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype) * dtype(1 if dtype is bool else 200)
    found = decode_values(encode(Image.fromarray(values), "TIFF"))
    assert np.array_equal(found, values)
    assert found.dtype != bool


def test_several_values_per_pixel_are_refused():
    with pytest.raises(InputError, match="mode RGBA; it must hold one value per pixel"):
        decode_values(encode(Image.new("RGBA", (2, 2))))


def test_broken_files_and_bombs(monkeypatch):
    whole = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)))
    with pytest.raises(InputError, match="cannot be decoded"):
        decode_rgb(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cannot be decoded \(no kind of image file that Pillow knows\)"):
        decode_rgb(b"not an image")
    monkeypatch.setattr(images, "MAX_PIXELS", 399)
    with pytest.raises(InputError, match="DecompressionBomb: 20x20 pixels"):
        decode_rgb(whole)
