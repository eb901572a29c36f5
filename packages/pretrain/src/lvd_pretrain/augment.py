"""Photometric augmentation, batched on the device: colour jitter, grayscale, blur, solarisation, normalisation.

The workers draw every image's parameters (`draw_photometry`), the device applies them to the batch (`Photometry`).
A GPU takes all images through every operation: one that drew no blur is multiplied by a unit kernel and so on. A CPU
takes those that drew it, a few at a time, so that they stay in its cache; the values are the same.
All four colour operations run in one fixed order, where torchvision's ColorJitter draws an order per image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lvd_pretrain.config import AugmentConfig
from lvd_pretrain.draws import uniform

Operation = Callable[[Tensor, Tensor], Tensor]  # images and an amount per image -> images
BRIGHTNESS, CONTRAST, SATURATION, HUE, GRAY, SIGMA, SOLARIZE = range(7)  # columns of a photometry row
BLUR_KERNEL = 9  # pixels, as released
CACHED = 2**18  # values that a CPU colours at once: their temporaries stay in its cache
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as torchvision's grayscale


def draw_photometry(view: int, config: AugmentConfig, rng: np.random.Generator) -> NDArray[np.float32]:
    """One crop's parameters, float32 [7]; `view` is 0 and 1 for the global crops, 2 for a local one."""
    row = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]  # the identity
    if rng.random() < config.jitter:
        row[BRIGHTNESS] = uniform(max(0.0, 1 - config.brightness), 1 + config.brightness, rng)
        row[CONTRAST] = uniform(max(0.0, 1 - config.contrast), 1 + config.contrast, rng)
        row[SATURATION] = uniform(max(0.0, 1 - config.saturation), 1 + config.saturation, rng)
        row[HUE] = uniform(-config.hue, config.hue, rng)
    row[GRAY] = rng.random() < config.gray
    if rng.random() < config.blur[view]:
        row[SIGMA] = uniform(*config.blur_sigma, rng)
    row[SOLARIZE] = rng.random() < config.solarize[view]
    return np.array(row, dtype=np.float32)


class Photometry:
    """Applies drawn parameters to a batch of uint8 crops and normalises it.

    Attributes:
        selective: whether operations go to the images that drew them only; the host would have to wait for a GPU to say
            which.
    """

    def __init__(self, config: AugmentConfig, device: torch.device) -> None:
        self.mean = torch.tensor(config.mean, device=device).view(3, 1, 1)
        self.std = torch.tensor(config.std, device=device).view(3, 1, 1)
        self.selective = device.type == "cpu"

    def __call__(self, crops: Tensor, rows: Tensor) -> Tensor:
        """uint8 [N, 3, H, W] and float32 [N, 7] -> normalised float32 [N, 3, H, W]."""
        normalised = torch.empty(crops.shape, device=crops.device)
        at_once = max(1, CACHED // crops[:1].numel()) if self.selective and len(crops) else max(1, len(crops))
        for start in range(0, len(crops), at_once):
            part = slice(start, start + at_once)
            images = crops[part].to(torch.float32, memory_format=torch.contiguous_format) / 255
            for operation, amount, identity in operations(rows[part]):
                images = self._apply(operation, images, amount, identity)
            torch.sub(images, self.mean, out=normalised[part]).div_(self.std)
        return normalised

    def _apply(self, operation: Operation, images: Tensor, amount: Tensor, identity: float) -> Tensor:
        """The images after one operation, with an amount per image; `identity` changes nothing. Overwrites `images`."""
        drawn = (amount != identity).nonzero().squeeze(1) if self.selective else ()
        if not self.selective or len(drawn) == len(images):
            return operation(images, amount)
        if len(drawn):
            images[drawn] = operation(images[drawn], amount[drawn])
        return images


def operations(rows: Tensor) -> Iterator[tuple[Operation, Tensor, float]]:
    """What rows [N, 7] ask for, in order: operation, amount per image [N], the amount that changes nothing."""
    columns = rows.unbind(1)
    yield adjust_brightness, columns[BRIGHTNESS], 1
    yield adjust_contrast, columns[CONTRAST], 1
    yield adjust_saturation, columns[SATURATION], 1
    yield shift_hue, columns[HUE], 0
    yield adjust_saturation, 1 - columns[GRAY], 1
    yield blur, columns[SIGMA], 0
    yield solarize, columns[SOLARIZE], 0


def luma(images: Tensor) -> Tensor:
    """Luminance of RGB images, [N, 3, H, W] -> [N, 1, H, W]."""
    red, green, blue = images.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by a factor per image, [N]; images [N, 3, H, W] in 0..1, as in all that follow."""
    return (images * factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Away from each image's mean luminance, or towards it below 1."""
    return _blend(images, luma(images.mean(dim=(-2, -1), keepdim=True)), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Away from the luminance of each pixel, or towards it below 1; 0 is grayscale."""
    return _blend(images, luma(images), factor)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other, images, factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def solarize(images: Tensor, chosen: Tensor) -> Tensor:
    """Invert what is at least half bright, in images whose `chosen` is 1; not at all where it is 0."""
    bright = images.clone().ge_(128 / 255).mul_(chosen.view(-1, 1, 1, 1))
    return torch.lerp(images, 1 - images, bright)


def shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by `shift` (share of the circle, [N]) through HSV; images [N, 3, H, W] in 0..1."""
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    safe = chroma.clamp_min(1e-12)
    # Choices by weights of 0 and 1, and floor for remainder: on a CPU those are vectorised, where() is not.
    sector = torch.lerp((red - green).div_(safe).add_(4), (blue - red).div_(safe).add_(2), green.clone().eq_(value))
    sector = torch.lerp(sector, (green - blue).div_(safe), red.clone().eq_(value))
    turned = sector.add_(6 * shift.view(-1, 1, 1))
    hue = turned.sub_((turned / 6).floor_().mul_(6))  # 0..6
    lacking = ((hue - 3).abs_().neg_().add_(2), (hue - 2).abs_().sub_(1), (hue - 4).abs_().sub_(1))  # of R, G, B
    return torch.stack([value - share.clamp_(0, 1).mul_(chroma) for share in lacking], dim=1)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a sigma per image ([N], pixels; 0 leaves the image as it is), reflected at the border."""
    margin = BLUR_KERNEL // 2
    offsets = torch.arange(margin + 1, device=images.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3).unsqueeze(1)).square())
    weights = weights / (2 * weights.sum(1, keepdim=True) - weights[:, :1])  # [N, 1 + margin]: middle, then each side
    kernel = weights.view(-1, margin + 1, 1, 1, 1).unbind(1)
    padded = F.pad(images, (margin,) * 4, mode="reflect")
    return _weigh(_weigh(padded, kernel, -1), kernel, -2)


def _weigh(images: Tensor, kernel: Sequence[Tensor], dim: int) -> Tensor:
    """Convolve with a symmetric kernel along one dimension; both margins of that dimension go."""
    margin = len(kernel) - 1
    size = images.shape[dim] - 2 * margin
    total = images.narrow(dim, margin, size) * kernel[0]
    sides = torch.empty_like(total)
    for distance in range(1, margin + 1):
        before, after = (images.narrow(dim, margin + way, size) for way in (-distance, distance))
        total.addcmul_(torch.add(before, after, out=sides), kernel[distance])
    return total
