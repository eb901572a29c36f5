"""Images and depth maps as heads are trained and measured on them: regions, augmentation, sizes that patches tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from lvd_evaluate.config import DepthConfig
from lvd_evaluate.dense import transforms
from lvd_evaluate.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

NYU_SIZE = (480, 640)  # height, width
NYU_REGION = (45, 43, 472 - 45, 608 - 43)  # top, left, height, width: Kinect's picture without its white border
KB_SIZE = (352, 1216)  # height, width at the lower edge of KITTI's pictures
MAX_TURN = 2.5  # degrees; roads are not turned
GAMMA, TINT = (0.9, 1.1), (0.9, 1.1)  # exponent; factor of each colour
BRIGHTNESS = {"none": (0.75, 1.25), "nyu": (0.75, 1.25), "kb": (0.9, 1.1)}
CROP_SHARE = 0.97  # of both sides, about what 416x544 are of NYU's region
BLACK = (0, 0, 0)


@dataclass(frozen=True)
class AugmentDepth:
    """A training sample: region, turn, flip, crop, colours, each of the chances one half; crosses to processes."""

    size: tuple[int, int]  # height and width of the crop
    region: str
    short_side: int | None

    def __call__(self, image: Image.Image, depth: np.ndarray, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Image uint8 [3, h, w] and metres [h, w] at `size`; 0 metres where turning brought nothing in."""
        chances = generator.random(3) < 0.5
        pixels, metres = cut_region(*transforms.to_tensors(image, depth), self.region, training=True)
        if chances[0] and self.region != "kb":
            pixels, metres = transforms.turn(pixels, metres, generator.uniform(-MAX_TURN, MAX_TURN), BLACK, 0.0)
        if chances[1]:
            pixels, metres = transforms.flip(pixels, metres)
        inner = cover_size(inner_size(metres.shape, self.short_side), self.size)
        if inner != tuple(metres.shape):
            pixels, metres = transforms.resize(pixels, inner), transforms.resize_target(metres, inner)
        pixels, metres = transforms.crop(pixels, metres, transforms.draw_crop(metres, self.size, generator))
        return (distort(pixels, self.region, generator) if chances[2] else pixels), metres


@dataclass(frozen=True)
class PrepareDepth:
    """A test sample: the image at the size that is asked for, the truth as it is; crosses to processes."""

    region: str
    short_side: int | None

    def __call__(self, image: Image.Image, depth: np.ndarray) -> tuple[Tensor, Tensor]:
        """Image uint8 [3, h, w] and metres [H, W]."""
        pixels, metres = cut_region(*transforms.to_tensors(image, depth), self.region, training=False)
        if self.short_side:
            pixels = transforms.resize(pixels, inner_size(metres.shape, self.short_side))
        return pixels, metres


def crop_size(height: int, width: int, config: DepthConfig) -> tuple[int, int]:
    """Height and width of training crops: those asked for, else nearly all of an image of this size."""
    if config.crop:
        return config.crop[0], config.crop[1]
    if config.region == "nyu":
        height, width = NYU_REGION[2:]
    elif config.region == "kb":
        height, width = KB_SIZE
    height, width = inner_size((height, width), config.short_side)
    return round(CROP_SHARE * height), round(CROP_SHARE * width)


def inner_size(size: tuple[int, ...] | torch.Size, short_side: int | None) -> tuple[int, int]:
    """Height and width after the resize that comes first."""
    height, width = size
    return transforms.fit_short_side(height, width, short_side) if short_side else (height, width)


def cover_size(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """Height and width, enlarged alike where they would not cover `wanted`."""
    scale = max(1.0, wanted[0] / size[0], wanted[1] / size[1])
    return max(round(scale * size[0]), wanted[0]), max(round(scale * size[1]), wanted[1])


def cut_region(image: Tensor, depth: Tensor, region: str, *, training: bool) -> tuple[Tensor, Tensor]:
    """Both without what the data set's convention leaves out (BTS, arXiv 1907.10326; KITTI's benchmark crop).

    Raises:
        InputError: the image is not of the kind that the region belongs to.
    """
    height, width = depth.shape
    if region == "nyu":
        if (height, width) != NYU_SIZE:
            raise InputError(f"depth.region=nyu is for images of 640x480 pixels, not {width}x{height}")
        return transforms.crop(image, depth, NYU_REGION) if training else (image, depth)
    if region == "kb":
        if height < KB_SIZE[0] or width < KB_SIZE[1]:
            raise InputError(f"depth.region=kb is for images of 1216x352 pixels or more, not {width}x{height}")
        return transforms.crop(image, depth, (height - KB_SIZE[0], (width - KB_SIZE[1]) // 2, *KB_SIZE))
    return image, depth


def distort(image: Tensor, region: str, generator: np.random.Generator) -> Tensor:
    """Gamma, brightness and a factor for each colour, uint8 [3, h, w]."""
    gamma, brightness = generator.uniform(*GAMMA), generator.uniform(*BRIGHTNESS[region])
    tint = torch.from_numpy(generator.uniform(*TINT, size=3)).float()[:, None, None]
    values = (image.float() / 255) ** gamma * brightness * tint
    return (values * 255).round().clamp(0, 255).to(torch.uint8)


def fit_to_cells(images: Tensor, cell: int, how: str, mean: tuple[float, ...]) -> Tensor:
    """Images as float 0..1 [B, 3, h, w] with sides that are multiples of `cell`.

    Args:
        images: uint8 [B, 3, h, w].
        cell: pixels.
        how: resize (to the nearest multiple, so that tokens stay in register with the truth) or pad (around the centre
            with the mean colour, which is 0 once normalised; the released code then stretches the padded map over the
            truth, which shifts its border by up to half a patch).
        mean: colour.
    """
    values = images.float() / 255
    height, width = values.shape[2:]
    if how == "resize":
        wanted = [max(round(side / cell), 1) * cell for side in (height, width)]
        return v2.resize(values, wanted, antialias=True) if wanted != [height, width] else values
    missing = [-side % cell for side in (height, width)]
    margins = [missing[1] // 2, missing[1] - missing[1] // 2, missing[0] // 2, missing[0] - missing[0] // 2]
    centre = torch.tensor(mean, device=values.device)[:, None, None]
    return F.pad(values - centre, margins) + centre
