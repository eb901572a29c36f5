"""Image files in: as RGB, or as one value per pixel."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from lvd_evaluate.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 89_478_485  # of one image; Pillow's own limit, where it only warns


def decode_rgb(content: bytes) -> Image.Image:
    """An image file at its own size.

    Raises:
        InputError: the bytes are no image, are cut short, or would unpack into a bomb.
    """
    return to_rgb(_decode(content))


def decode_values(content: bytes) -> np.ndarray:
    """The numbers of a file with one value per pixel [H, W], as they are stored: class masks, depth maps.

    Raises:
        InputError: as `decode_rgb`, or there are several values per pixel.
    """
    image = _decode(content)
    if image.mode not in ("1", "L", "P", "I", "F") and not image.mode.startswith("I;16"):
        raise InputError(f"is an image of mode {image.mode}; it must hold one value per pixel")
    values = np.asarray(image)
    return values.astype(np.uint8) if values.dtype == bool else values  # [H, W]


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB: 16-bit greys scaled to 8 bits, float greys by their largest value (Pillow would clip both)."""
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image if image.mode == "RGB" else image.convert("RGB")
    grey = np.asarray(image, dtype=np.float64)  # [H, W]
    top = 65535.0 if image.mode.startswith("I") else max(float(np.nanmax(grey)), 1e-9)
    return Image.fromarray(np.nan_to_num(np.clip(grey / top, 0, 1) * 255).astype(np.uint8)).convert("RGB")


def _decode(content: bytes) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            raise InputError(f"is a DecompressionBomb: {image.width}x{image.height} pixels")
        image.load()
    except InputError:
        raise
    except UnidentifiedImageError as error:  # whose own text names a place in memory
        raise InputError("cannot be decoded (no kind of image file that Pillow knows)") from error
    except Exception as error:  # Pillow's plugins raise whatever a broken file drives them into
        raise InputError(f"cannot be decoded ({type(error).__name__}: {error})") from error
    return image
