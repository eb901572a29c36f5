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
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from lvd_pretrain.config import CropsConfig
from lvd_pretrain.draws import uniform

Box = tuple[int, int, int, int]  # top, left, height, width
ASPECT = (3 / 4, 4 / 3)  # width / height of a random resized crop
LOG_ASPECT = (math.log(ASPECT[0]), math.log(ASPECT[1]))
TRIES = 10


def decode(data: bytes) -> Tensor:
    """Decode image bytes to RGB, uint8 [3, H, W], channels last in memory as a rule, upright by EXIF.

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
    return torch.from_numpy(np.array(upright)).permute(2, 0, 1)


def random_box(height: int, width: int, scale: tuple[float, float], rng: np.random.Generator) -> Box:
    """Box of a random resized crop: area and log-aspect uniform, the centre when nothing fits."""
    for _ in range(TRIES):
        area = height * width * uniform(*scale, rng)
        aspect = math.exp(uniform(*LOG_ASPECT, rng))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    h, w = min(height, round(width / ASPECT[0])), min(width, round(height * ASPECT[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def cut(image: Tensor, box: Box, size: int, flip: bool) -> Tensor:
    """One box of an image uint8 [3, H, W], resized to uint8 [3, size, size], bicubic with antialias, and flipped.

    Both ways channels are last in memory: PyTorch's resampler works in that layout and would copy any other to and fro.
    """
    top, left, h, w = box
    pixels = image.permute(1, 2, 0)[top : top + h, left : left + w].contiguous()  # [h, w, 3]
    # The strides of a channels-last batch, spelled out: for a batch of one PyTorch would not recognise it.
    batch = pixels.as_strided((1, 3, h, w), (pixels.numel(), 1, 3 * w, 3))
    resized = F.interpolate(batch, (size, size), mode="bicubic", antialias=True)[0]
    return resized.flip(-1) if flip else resized


def random_crop(image: Tensor, size: int, scale: tuple[float, float], flip: float, rng: np.random.Generator) -> Tensor:
    """One random resized crop, uint8 [3, size, size], flipped with probability `flip`."""
    box = random_box(image.shape[-2], image.shape[-1], scale, rng)
    return cut(image, box, size, rng.random() < flip)


def multi_crop(image: Tensor, config: CropsConfig, rng: np.random.Generator) -> tuple[list[Tensor], list[Tensor]]:
    """Two global and `local_number` local crops of one image (DINO's multi-crop), all cut from the full image."""
    global_crops = [random_crop(image, config.global_size, config.global_scale, config.flip, rng) for _ in range(2)]
    local_crops = [
        random_crop(image, config.local_size, config.local_scale, config.flip, rng) for _ in range(config.local_number)
    ]
    return global_crops, local_crops
