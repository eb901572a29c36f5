"""The image itself as a vector, its squares of colour as patch tokens: what a benchmark gives away unlearned."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lvd_evaluate.contracts import Tokens
from lvd_evaluate.errors import InputError

DEFAULT_SIZE = 32  # pixels
PATCH_SIZE = 4  # pixels: 48 values per patch token, enough to tell the colour and coarse texture of a place


class PixelEncoder:
    """RGB in 0..1 of the image resized to a small square, not centred; see contracts.Encoder for the attributes."""

    loader = "pixels"
    feature = "RGB values"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    num_layers = 1
    num_parameters = 0
    weights = "no weights"

    def __init__(self, spec: str, size: int, device: torch.device) -> None:
        self.spec, self.name = spec, f"raw pixels {size}x{size}"
        self.image_size = self.resize_size = size
        self.patch_size: int | None = math.gcd(size, PATCH_SIZE)  # small sizes must be tiled, too
        self.fingerprint = f"pixels-{size}-patch-{self.patch_size}"
        self.device = device

    def encode(self, images: Tensor, layers: int | Sequence[int], *, normed: bool = True) -> list[Tokens]:
        """One layer from uint8 or 0..1 float images [B, 3, H, W]: cls [B, 3 H W], patches [B, h, w, 3 p p]."""
        images = images.to(self.device)
        values = images.float() / 255 if images.dtype == torch.uint8 else images
        assert self.patch_size
        patches = functional.pixel_unshuffle(values, self.patch_size).permute(0, 2, 3, 1)  # [B, h, w, 3 p p]
        return [Tokens(cls=values.flatten(1), patches=patches)]

    def at_size(self, height: int, width: int) -> PixelEncoder:
        """Itself: any size will do."""
        return self


def load_pixels(spec: str, size: str, device: torch.device) -> PixelEncoder:
    """`pixels` or `pixels:SIZE`, SIZE in pixels.

    Raises:
        InputError: SIZE is no positive whole number.
    """
    if size and not (size.isdecimal() and int(size) > 0):
        raise InputError(f"{spec}: SIZE must be a whole number of pixels, for example pixels:{DEFAULT_SIZE}")
    return PixelEncoder(spec, int(size) if size else DEFAULT_SIZE, device)
