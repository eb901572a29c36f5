"""Pictures of dense predictions: image, truth and prediction side by side, classes in fixed colours."""

from __future__ import annotations

import colorsys
import io

import numpy as np

from lvd_evaluate.contracts import VOID

GAP = 4  # white pixels between panels
GOLDEN = 0.618033988749895  # of a circle: neighbouring classes get far hues, however many there are
VOID_COLOUR = (0, 0, 0)


def class_colours(count: int) -> np.ndarray:
    """Colours of classes 0, 1, ..., uint8 [count, 3]; the same for a class whatever the count."""
    colours = [
        colorsys.hsv_to_rgb(number * GOLDEN % 1, (0.9, 0.55)[number % 2], (0.95, 0.75, 0.55)[number % 3])
        for number in range(count)
    ]
    return (np.array(colours).reshape(count, 3) * 255).round().astype(np.uint8)


def colour_classes(mask: np.ndarray, num_classes: int) -> np.ndarray:
    """A mask [H, W] of classes or VOID as uint8 [H, W, 3]; VOID is black."""
    assert VOID == -1  # the last row of the table
    return np.concatenate([class_colours(num_classes), np.array([VOID_COLOUR], np.uint8)])[mask]


def side_by_side(panels: list[np.ndarray]) -> bytes:
    """A PNG of panels uint8 [H, W, 3] of one height, left to right."""
    from PIL import Image

    gap = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    row = [part for panel in panels for part in (panel, gap)][:-1]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(row, axis=1)).save(buffer, "PNG")
    return buffer.getvalue()
