"""Augmentation of an image and its target in step: resize, crop, flip, turn, colours; every draw from a generator.

Images are uint8 [3, H, W]; targets [H, W] are classes (int64) or metres (float32). Targets are only ever resampled by
nearest neighbour, and what has no target afterwards gets the value that does not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from lvd_evaluate.errors import InputError
from lvd_evaluate.images import MAX_PIXELS

if TYPE_CHECKING:
    from PIL import Image

CROP_TRIES = 10  # draws of a crop before one that shows too much of one class is taken all the same
BRIGHTNESS, CONTRAST, SATURATION, HUE = 32, (0.5, 1.5), (0.5, 1.5), 0.05  # levels of 256, factors, part of the circle


def to_tensors(image: Image.Image, target: np.ndarray) -> tuple[Tensor, Tensor]:
    """An RGB image as uint8 [3, H, W] and its target [H, W]."""
    return v2.pil_to_tensor(image), torch.from_numpy(np.ascontiguousarray(target))


def fit_short_side(height: int, width: int, short: int) -> tuple[int, int]:
    """Height and width scaled so that the smaller is `short`, rounded to pixels.

    Raises:
        InputError: that would be too large for any memory.
    """
    scale = short / min(height, width)
    scaled = max(round(height * scale), short), max(round(width * scale), short)
    if scaled[0] * scaled[1] > MAX_PIXELS:
        raise InputError(f"an image of {width}x{height} pixels would be {scaled[1]}x{scaled[0]} at short side {short}")
    return scaled


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image bilinearly, with antialiasing."""
    return v2.resize(image, list(size), InterpolationMode.BILINEAR, antialias=True)


def resize_target(target: Tensor, size: tuple[int, int]) -> Tensor:
    """A target by nearest neighbour."""
    return v2.resize(target[None], list(size), InterpolationMode.NEAREST)[0]


def crop(image: Tensor, target: Tensor, box: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Top, left, height, width out of both; the box lies within."""
    return v2.crop(image, *box), v2.crop(target, *box)


def draw_crop(
    target: Tensor, size: tuple[int, int], generator: np.random.Generator, *, max_share: float = 1.0
) -> tuple[int, int, int, int]:
    """A box (top, left, height, width) of `size`, or of the whole side where that is shorter.

    Args:
        target: [H, W]; negative values do not count.
        size: height and width.
        generator: of the place.
        max_share: of the largest class among the pixels that count, if ten draws can find such a place.
    """
    height, width = (min(side, whole) for side, whole in zip(size, target.shape[-2:], strict=True))
    for _ in range(CROP_TRIES):
        top = int(generator.integers(target.shape[-2] - height + 1))
        left = int(generator.integers(target.shape[-1] - width + 1))
        if max_share >= 1:
            break
        part = target[..., top : top + height, left : left + width]
        counts = torch.bincount(part[part >= 0])
        if (counts > 0).sum() > 1 and counts.max() < max_share * counts.sum():
            break
    return top, left, height, width


def pad(
    image: Tensor, target: Tensor, size: tuple[int, int], colour: tuple[int, ...], missing: float
) -> tuple[Tensor, Tensor]:
    """Both extended to `size` at the right and the bottom, by a colour and by what does not count."""
    margins = [0, 0, size[1] - image.shape[-1], size[0] - image.shape[-2]]  # left, top, right, bottom
    if not any(margins):
        return image, target
    return v2.pad(image, margins, fill=list(colour)), v2.pad(target[None], margins, fill=missing)[0]


def flip(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both mirrored, left to right."""
    return v2.horizontal_flip(image), v2.horizontal_flip(target)


def turn(
    image: Tensor, target: Tensor, degrees: float, colour: tuple[int, ...], missing: float
) -> tuple[Tensor, Tensor]:
    """Both turned about the centre, sizes kept; what comes in at the corners has a colour and does not count."""
    turned = v2.rotate(image, degrees, InterpolationMode.BILINEAR, fill=list(colour))
    return turned, v2.rotate(target[None], degrees, InterpolationMode.NEAREST, fill=missing)[0]


def distort_colours(image: Tensor, generator: np.random.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue, each in half of the images; contrast first or last.

    The "photometric distortion" of SSD (arXiv 1512.02325) without its swapped channels, as the released segmentation
    configs of DINOv2 use it.
    """
    chances = generator.random(5) < 0.5  # brightness, contrast, saturation, hue; whether contrast comes first
    brightness = float(generator.uniform(-BRIGHTNESS, BRIGHTNESS))
    contrast, saturation = float(generator.uniform(*CONTRAST)), float(generator.uniform(*SATURATION))
    hue = float(generator.uniform(-HUE, HUE))
    if chances[0]:
        image = _scale(image, 1.0, brightness)
    if chances[1] and chances[4]:
        image = _scale(image, contrast, 0.0)
    if chances[2]:
        image = v2.adjust_saturation(image, saturation)
    if chances[3]:
        image = v2.adjust_hue(image, hue)
    if chances[1] and not chances[4]:
        image = _scale(image, contrast, 0.0)
    return image


def _scale(image: Tensor, factor: float, offset: float) -> Tensor:
    return (image.float() * factor + offset).round().clamp(0, 255).to(torch.uint8)
