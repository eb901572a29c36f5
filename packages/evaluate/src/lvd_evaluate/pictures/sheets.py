"""Panels, colour scales and lines: what pictures of tokens are put together from."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence

import numpy as np

GAP = 6  # white pixels between panels
LINE = 2  # pixels
DOT = 4  # radius, pixels
Place = tuple[float, float]  # shares of height and width


def enlarge(image: np.ndarray, height: int, like: np.ndarray | None = None) -> np.ndarray:
    """uint8 [H, W, 3] at another height, photographs smoothly; or, like a photograph's panel, every token a square."""
    from PIL import Image

    if like is not None:
        size, how = (like.shape[1], like.shape[0]), Image.Resampling.NEAREST
    else:
        size, how = (max(round(image.shape[1] * height / image.shape[0]), 1), height), Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize(size, how))


def colour_scale(values: np.ndarray) -> np.ndarray:
    """A map [h, w] as uint8 [h, w, 3], evenly to the eye: smallest value dark, highest hundredth bright."""
    from matplotlib import colormaps

    low, high = values.min(), np.quantile(values, 0.99)
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return (colormaps["magma"](scaled.clip(0, 1))[..., :3] * 255).round().astype(np.uint8)


def sheet(rows: Sequence[Sequence[np.ndarray]]) -> bytes:
    """A PNG of rows of panels uint8 [H, W, 3], left-aligned on white."""
    lines = [_row(panels) for panels in rows]
    width = max(line.shape[1] for line in lines)
    parts: list[np.ndarray] = []
    for line in lines:
        padded = np.full((line.shape[0], width, 3), 255, np.uint8)
        padded[:, : line.shape[1]] = line
        parts += [padded, np.full((GAP, width, 3), 255, np.uint8)]
    return _png(np.concatenate(parts[:-1]))


def draw_matches(first: np.ndarray, second: np.ndarray, pairs: Sequence[tuple[Place, Place]]) -> bytes:
    """A PNG of two panels with a line per pair; hue tells the direction of its start from the middle of all starts."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(_row([first, second]))
    draw = ImageDraw.Draw(picture)
    middle = np.mean([start for start, _ in pairs], axis=0) if pairs else np.zeros(2)
    for start, end in pairs:
        hue = np.arctan2(start[0] - middle[0], start[1] - middle[1]) / (2 * np.pi) % 1
        colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.9, 1.0))
        line = [
            (start[1] * first.shape[1], start[0] * first.shape[0]),
            (first.shape[1] + GAP + end[1] * second.shape[1], end[0] * second.shape[0]),
        ]
        draw.line(line, fill=colour, width=LINE)
        for x, y in line:
            draw.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=colour, outline=(255, 255, 255))
    return _png(np.asarray(picture))


def _row(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Panels side by side, aligned at the top."""
    height = max(panel.shape[0] for panel in panels)
    parts = []
    for panel in panels:
        padded = np.full((height, panel.shape[1] + GAP, 3), 255, np.uint8)
        padded[: panel.shape[0], : panel.shape[1]] = panel
        parts.append(padded)
    return np.concatenate(parts, axis=1)[:, :-GAP]


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
