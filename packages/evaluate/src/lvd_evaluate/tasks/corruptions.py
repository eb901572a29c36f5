"""Four corruptions of images at five severities, and AlexNet's errors on those of ImageNet-C.

Noise, blur, contrast and JPEG as Hendrycks and Dietterich define their strengths (arXiv 1903.12261: gaussian_noise,
gaussian_blur, contrast, jpeg_compression, for images of 224 pixels). They are no substitute for ImageNet-C, whose
fifteen corruptions come as files.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np

VERSION = 1  # raise when the same image would be corrupted otherwise
SEVERITIES = (1, 2, 3, 4, 5)
ALEXNET_ERRORS = {  # mean over severities, share of 1; arXiv 1903.12261 and the tables published with it
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}


def corrupt(image: np.ndarray, corruption: str, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A corrupted copy.

    Args:
        image: uint8 [H, W, 3].
        corruption: noise, blur, contrast or jpeg.
        severity: 1 to 5.
        generator: of the noise.
    """
    function, strengths = _CORRUPTIONS[corruption]
    return function(image, strengths[severity - 1], generator)


def _noise(image: np.ndarray, deviation: float, generator: np.random.Generator) -> np.ndarray:
    """Normal noise; its standard deviation is a share of the range."""
    return _to_bytes(image / 255 + generator.normal(scale=deviation, size=image.shape))


def _blur(image: np.ndarray, radius: float, generator: np.random.Generator) -> np.ndarray:
    """Gaussian blur; its standard deviation is in pixels."""
    from PIL import Image, ImageFilter

    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def _contrast(image: np.ndarray, factor: float, generator: np.random.Generator) -> np.ndarray:
    """Distances from each channel's mean shrink by the factor."""
    mean = image.mean(axis=(0, 1)) / 255
    return _to_bytes((image / 255 - mean) * factor + mean)


def _jpeg(image: np.ndarray, quality: float, generator: np.random.Generator) -> np.ndarray:
    """Through a JPEG file of that quality."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=int(quality))
    return np.asarray(Image.open(buffer))


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


_Corruption = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
_CORRUPTIONS: dict[str, tuple[_Corruption, tuple[float, ...]]] = {
    "noise": (_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "blur": (_blur, (1, 2, 3, 4, 6)),
    "contrast": (_contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "jpeg": (_jpeg, (25, 18, 15, 10, 7)),
}
