"""Augmented views of an image for linear heads (DINOv2, arXiv 2304.07193, B.3): random resized crop and flip."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

AREA = (0.08, 1.0)  # of the image that a crop covers
LOG_RATIO = (math.log(3 / 4), math.log(4 / 3))  # of its width to its height
ATTEMPTS = 10  # to draw a crop that fits


def random_view(image: Image.Image, size: int, generator: np.random.Generator) -> np.ndarray:
    """A random resized crop, flipped half of the time: uint8 [3, size, size]."""
    from PIL import Image

    view = image.crop(draw_box(*image.size, generator)).resize((size, size), Image.Resampling.BICUBIC)
    if generator.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(view).transpose(2, 0, 1)  # [3, S, S]


def draw_box(width: int, height: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a crop, drawn like torchvision's RandomResizedCrop.

    Where ten draws do not fit, the largest centred crop of the nearest allowed ratio.
    """
    for _ in range(ATTEMPTS):
        area = width * height * generator.uniform(*AREA)
        ratio = math.exp(generator.uniform(*LOG_RATIO))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(generator.integers(width - w + 1)), int(generator.integers(height - h + 1))
            return left, top, left + w, top + h
    ratio = min(max(width / height, math.exp(LOG_RATIO[0])), math.exp(LOG_RATIO[1]))
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
