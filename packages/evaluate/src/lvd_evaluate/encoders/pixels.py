"""The image itself as a vector: what a benchmark gives away without any learning."""

from __future__ import annotations

import torch
from torch import Tensor

from lvd_evaluate.contracts import Tokens
from lvd_evaluate.errors import InputError

DEFAULT_SIZE = 32  # pixels


class PixelEncoder:
    """RGB in 0..1 of the image resized to a small square, not centred; see contracts.Encoder for the attributes."""

    loader = "pixels"
    feature = "RGB values"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    num_layers = 1
    num_parameters = 0

    def __init__(self, spec: str, size: int, device: torch.device) -> None:
        self.spec, self.name = spec, f"raw pixels {size}x{size}"
        self.image_size = self.resize_size = size
        self.fingerprint = f"pixels-{size}"
        self.device = device

    def encode(self, images: Tensor, num_layers: int) -> list[Tokens]:
        """One layer of [B, 3 S S] values from uint8 or 0..1 float images [B, 3, S, S]."""
        images = images.to(self.device)
        values = images.float() / 255 if images.dtype == torch.uint8 else images
        return [Tokens(cls=values.flatten(1))]


def load_pixels(spec: str, size: str, device: torch.device) -> PixelEncoder:
    """`pixels` or `pixels:SIZE`, SIZE in pixels.

    Raises:
        InputError: SIZE is no positive whole number.
    """
    if size and not (size.isdecimal() and int(size) > 0):
        raise InputError(f"{spec}: SIZE must be a whole number of pixels, for example pixels:{DEFAULT_SIZE}")
    return PixelEncoder(spec, int(size) if size else DEFAULT_SIZE, device)
