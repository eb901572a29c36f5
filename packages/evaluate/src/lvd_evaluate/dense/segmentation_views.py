"""What a segmentation head sees of an image: augmented crops in training, the image at every ratio at test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from lvd_evaluate.config import SegmentationSizes
from lvd_evaluate.contracts import VOID
from lvd_evaluate.dense.transforms import (
    crop,
    distort_colours,
    draw_crop,
    fit_short_side,
    flip,
    pad,
    resize,
    resize_target,
    to_tensors,
)

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Augment:
    """A training crop: scaled, cut where classes mix, flipped in half of the cases, colours distorted."""

    sizes: SegmentationSizes
    max_share: float
    colour: tuple[int, ...]  # of what lies outside the image; the encoder's mean

    def __call__(self, image: Image.Image, target: np.ndarray, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Uint8 [3, crop, crop] and int64 [crop, crop]."""
        low, high = self.sizes.scales
        size = fit_short_side(image.height, image.width, max(round(self.sizes.resize * draw.uniform(low, high)), 1))
        pixels, classes = to_tensors(image, target)
        pixels, classes = resize(pixels, size), resize_target(classes, size)
        square = (self.sizes.crop, self.sizes.crop)
        pixels, classes = crop(pixels, classes, draw_crop(classes, square, draw, max_share=self.max_share))
        if draw.random() < 0.5:
            pixels, classes = flip(pixels, classes)
        return pad(distort_colours(pixels, draw), classes, square, self.colour, VOID)


@dataclass(frozen=True)
class Prepare:
    """A test image at every ratio, and its target at its own size."""

    sizes: SegmentationSizes

    def __call__(self, image: Image.Image, target: np.ndarray) -> tuple[list[Tensor], Tensor]:
        """Uint8 [3, H, W] each, int64 [H, W]."""
        pixels, classes = to_tensors(image, target)
        shorts = [max(round(self.sizes.resize * ratio), 1) for ratio in self.sizes.ratios]
        return [resize(pixels, fit_short_side(image.height, image.width, short)) for short in shorts], classes
