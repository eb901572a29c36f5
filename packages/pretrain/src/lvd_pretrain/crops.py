"""Multi-crop in the workers: decode, random resized crops, flips, all in uint8.

Colour, blur and normalisation follow on the device (augment.py): geometry is cheap per image, photometry is cheap per
batch. Each sample draws from a generator of its own, so crops depend on the seed and the sample's position alone,
never on the number of ranks or workers.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import functional as F

from lvd_pretrain.config import CropsConfig

ASPECT = (3 / 4, 4 / 3)  # width / height of a random resized crop
TRIES = 10


def decode(data: bytes) -> Tensor:
    """Decode image bytes to RGB, uint8 [3, H, W], upright by EXIF.

    Raises:
        ValueError: not an image, truncated, or absurdly large.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:  # reads the header and refuses decompression bombs
            if image.format == "JPEG" and image.mode in ("RGB", "L"):  # torchvision's decoder is the quick one
                raw = torch.frombuffer(bytearray(data), dtype=torch.uint8)
                return decode_image(raw, ImageReadMode.RGB, apply_exif_orientation=True)
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # image libraries raise anything from OSError to struct.error for hostile files
        raise ValueError(f"unreadable image: {error}") from error
    return torch.from_numpy(np.array(upright)).permute(2, 0, 1).contiguous()


def random_box(
    height: int, width: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random resized crop: area and log-aspect uniform, the centre when nothing fits."""
    for _ in range(TRIES):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    h, w = min(height, round(width / ASPECT[0])), min(width, round(height * ASPECT[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def crop(image: Tensor, size: int, scale: tuple[float, float], flip: float, rng: np.random.Generator) -> Tensor:
    """One random resized crop, uint8 [3, size, size], bicubic with antialias, flipped with probability `flip`."""
    box = random_box(image.shape[-2], image.shape[-1], scale, rng)
    resized = F.resized_crop(image, *box, size=[size, size], interpolation=F.InterpolationMode.BICUBIC, antialias=True)
    return resized.flip(-1) if rng.random() < flip else resized


def multi_crop(image: Tensor, config: CropsConfig, rng: np.random.Generator) -> tuple[list[Tensor], list[Tensor]]:
    """Two global and `local_number` local crops of one image (DINO's multi-crop), all cut from the full image."""
    global_crops = [crop(image, config.global_size, config.global_scale, config.flip, rng) for _ in range(2)]
    local_crops = [
        crop(image, config.local_size, config.local_scale, config.flip, rng) for _ in range(config.local_number)
    ]
    return global_crops, local_crops
