"""Photograph-like JPEGs, rendered: what benchmarks that decode images are fed where no real ones are given."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image


def render_photograph(seed: int, size: tuple[int, int] = (500, 375), falloff: float = 1.1, quality: int = 90) -> bytes:
    """Draw noise of every scale, strongest at the coarsest as in photographs, and save it as a JPEG.

    Args:
        seed: of the noise.
        size: width and height in pixels.
        falloff: how much weaker each scale is than the next coarser one. The default gives 0.35 bytes per pixel at
            quality 90, as ImageNet's photographs have; 1.5 gives half of that.
        quality: of the JPEG.
    """
    draw, total = np.random.default_rng(seed), np.zeros((size[1], size[0], 3))
    for level in range(8):
        noise = draw.integers(0, 256, (3 << level, 4 << level, 3), dtype=np.uint8)
        total += np.asarray(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC), float) / falloff**level
    buffer = io.BytesIO()
    Image.fromarray((total / total.max() * 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def render_folder(folder: Path, count: int, size: tuple[int, int] = (500, 375), falloff: float = 1.1) -> Path:
    """Write `count` photographs below a new folder."""
    folder.mkdir(parents=True)
    for seed in range(count):
        (folder / f"{seed:05d}.jpg").write_bytes(render_photograph(seed, size, falloff))
    return folder


def parquet_images(file: Path, count: int) -> Iterator[bytes]:
    """The first `count` files in a Parquet file of Hugging Face's image layout."""
    import pyarrow.parquet as pq

    for cell in pq.read_table(file, columns=["image"]).column("image").slice(0, count).to_pylist():
        yield cell["bytes"]
