"""Photometric augmentation, batched on the device: colour jitter, grayscale, blur, solarisation, normalisation.

The workers draw every image's parameters (`draw_photometry`), the device applies them to the whole batch at once
(`Photometry`), one elementwise operation each; an image that drew no blur is multiplied by a unit kernel and so on.
All four colour operations run in one fixed order, where torchvision's ColorJitter draws an order per image.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lvd_pretrain.config import AugmentConfig

BRIGHTNESS, CONTRAST, SATURATION, HUE, GRAY, SIGMA, SOLARIZE = range(7)  # columns of a photometry row
BLUR_KERNEL = 9  # pixels, as released
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as torchvision's grayscale


def draw_photometry(view: int, config: AugmentConfig, rng: np.random.Generator) -> NDArray[np.float32]:
    """One crop's parameters, float32 [7]; `view` is 0 and 1 for the global crops, 2 for a local one."""
    row = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]  # the identity
    if rng.random() < config.jitter:
        row[BRIGHTNESS] = _uniform(max(0.0, 1 - config.brightness), 1 + config.brightness, rng)
        row[CONTRAST] = _uniform(max(0.0, 1 - config.contrast), 1 + config.contrast, rng)
        row[SATURATION] = _uniform(max(0.0, 1 - config.saturation), 1 + config.saturation, rng)
        row[HUE] = _uniform(-config.hue, config.hue, rng)
    row[GRAY] = rng.random() < config.gray
    if rng.random() < config.blur[view]:
        row[SIGMA] = _uniform(*config.blur_sigma, rng)
    row[SOLARIZE] = rng.random() < config.solarize[view]
    return np.array(row, dtype=np.float32)


def _uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return low + (high - low) * rng.random()  # what rng.uniform draws, in a third of its time


class Photometry:
    """Applies drawn parameters to a batch of uint8 crops and normalises it."""

    def __init__(self, config: AugmentConfig, device: torch.device) -> None:
        self.mean = torch.tensor(config.mean, device=device).view(3, 1, 1)
        self.std = torch.tensor(config.std, device=device).view(3, 1, 1)

    def __call__(self, crops: Tensor, rows: Tensor) -> Tensor:
        """uint8 [N, 3, H, W] and float32 [N, 7] -> normalised float32 [N, 3, H, W]."""
        if len(crops) == 0:
            return crops.float()
        columns = [column.view(-1, 1, 1, 1) for column in rows.unbind(1)]
        images = crops.to(torch.float32, memory_format=torch.contiguous_format) / 255  # planes: quicker per channel
        images = (images * columns[BRIGHTNESS]).clamp_(0, 1)
        images = _blend(images, luma(images).mean(dim=(-2, -1), keepdim=True), columns[CONTRAST])
        images = _blend(images, luma(images), columns[SATURATION])
        images = shift_hue(images, columns[HUE].squeeze(1))
        images = torch.where(columns[GRAY] > 0, luma(images), images)
        images = blur(images, rows[:, SIGMA])
        images = torch.where((columns[SOLARIZE] > 0) & (images >= 128 / 255), 1 - images, images)
        return (images - self.mean) / self.std


def luma(images: Tensor) -> Tensor:
    """Luminance of RGB images, [N, 3, H, W] -> [N, 1, H, W]."""
    red, green, blue = images.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(images), images, factor.expand_as(images)).clamp_(0, 1)


def shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by `shift` (share of the circle, [N, 1, 1]) through HSV; images [N, 3, H, W] in 0..1."""
    value, argmax = images.max(dim=1)
    chroma = value - images.amin(dim=1)
    red, green, blue = images.unbind(1)
    safe = chroma.clamp_min(1e-12)
    sector = torch.where(
        argmax == 0, (green - blue) / safe, torch.where(argmax == 1, (blue - red) / safe + 2, (red - green) / safe + 4)
    )
    turned = sector + 6 * shift
    channels = []
    for offset in (5.0, 3.0, 1.0):  # f(n) = V - C * clamp(min(k, 4 - k), 0, 1), k = (n + H / 60 degrees) mod 6
        k = (offset + turned).remainder_(6)
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.where(shift.unsqueeze(1) == 0, images, torch.stack(channels, dim=1))


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a sigma per image ([N], pixels; 0 leaves the image as it is), reflected at the border."""
    offsets = torch.arange(BLUR_KERNEL, device=images.device, dtype=torch.float32) - BLUR_KERNEL // 2
    weights = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3).unsqueeze(1)).square())
    kernel = (weights / weights.sum(1, keepdim=True)).repeat_interleave(3, 0)  # [3N, kernel]
    n, _, height, width = images.shape
    margin = BLUR_KERNEL // 2
    padded = F.pad(images, (margin,) * 4, mode="reflect").reshape(1, 3 * n, height + 2 * margin, width + 2 * margin)
    rows = F.conv2d(padded, kernel.view(3 * n, 1, 1, BLUR_KERNEL), groups=3 * n)
    return F.conv2d(rows, kernel.view(3 * n, 1, BLUR_KERNEL, 1), groups=3 * n).view(n, 3, height, width)
