"""Maps of patch tokens of images of any size: tiled by the encoder's patches, or window by window and averaged."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lvd_evaluate.contracts import Encoder
from lvd_evaluate.errors import InputError


def read_patches(encoder: Encoder, images: Tensor, num_layers: int, precision: str) -> Tensor:
    """Patch tokens of the last layers, each through the final norm, concatenated: float32 [B, h, w, layers D].

    Images [B, 3, H, W], uint8, whose sides the patches do not tile are put in the middle of the encoder's mean colour
    (zeros once normalised), as the released segmentation heads of DINOv2 expect it.

    Raises:
        InputError: the encoder has no patch tokens.
    """
    if encoder.patch_size is None:
        raise InputError(f"{encoder.name}: has no patch tokens, which segmentation reads")
    images = _tile(images.to(encoder.device), encoder.patch_size, encoder.mean)
    with torch.autocast(encoder.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        layers = encoder.at_size(*images.shape[2:]).encode(images, min(num_layers, encoder.num_layers))
    maps = [layer.patches for layer in layers]
    assert all(patches is not None for patches in maps)
    return torch.cat([patches.float() for patches in maps if patches is not None], dim=3).clone()  # out of inference


def _tile(images: Tensor, patch_size: int, colour: tuple[float, ...]) -> Tensor:
    height, width = images.shape[2:]
    extra = (-height % patch_size, -width % patch_size)
    if not any(extra):
        return images
    background = torch.tensor(colour, device=images.device).view(1, 3, 1, 1)
    canvas = background.repeat(len(images), 1, height + extra[0], width + extra[1])  # [B, 3, H', W']
    top, left = extra[0] // 2, extra[1] // 2
    canvas[:, :, top : top + height, left : left + width] = images.float() / 255
    return canvas


def upsample(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, pixel centres aligned by area (align_corners=False): [B, K, h, w] to [B, K, *size]."""
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of windows that cover `length`: `stride` apart, the last one flush with the end."""
    count = max(length - window + stride - 1, 0) // stride + 1
    return [min(number * stride, max(length - window, 0)) for number in range(count)]


def average_windows(
    image: Tensor, window: int, stride: int, colour: tuple[float, ...], predict: Callable[[Tensor], Tensor]
) -> Tensor:
    """Scores [K, H, W] of an image of any size: the mean over the windows that see a pixel.

    Args:
        image: uint8 [3, H, W]; sides below the window are extended at the right and the bottom by `colour`.
        window: side in pixels.
        stride: pixels from window to window.
        colour: RGB in 0..1.
        predict: of all windows at once, uint8 [N, 3, window, window], scores on any grid [N, K, h, w].
    """
    height, width = image.shape[1:]
    tall, wide = max(height, window), max(width, window)
    background = (torch.tensor(colour) * 255).round().to(torch.uint8).view(3, 1, 1)
    canvas = background.repeat(1, tall, wide)
    canvas[:, :height, :width] = image
    places = [
        (top, left) for top in window_starts(tall, window, stride) for left in window_starts(wide, window, stride)
    ]
    parts = predict(torch.stack([canvas[:, top : top + window, left : left + window] for top, left in places]))
    total = parts.new_zeros(parts.shape[1], tall, wide)
    seen = parts.new_zeros(tall, wide)
    for (top, left), part in zip(places, parts, strict=True):
        total[:, top : top + window, left : left + window] += upsample(part[None], (window, window))[0]
        seen[top : top + window, left : left + window] += 1
    return (total / seen)[:, :height, :width]
