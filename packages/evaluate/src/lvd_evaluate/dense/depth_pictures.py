"""Pictures of predicted depth: image, truth and prediction in the same colours, and a bar that says the metres."""

from __future__ import annotations

import numpy as np

from lvd_evaluate.dense.pictures import side_by_side

BAR = (16, 44)  # pixels: the bar, and room for its numbers
TICKS = 5


def draw_depth(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> bytes:
    """A PNG; near is bright. The scale spans the truth, predictions beyond it are cut, unknown truth is black.

    Args:
        image: uint8 [H, W, 3].
        truth: metres [H, W], 0 where unknown.
        prediction: metres [H, W].
    """
    known = truth[truth > 0]
    near, far = (
        (float(known.min()), float(known.max())) if len(known) else (float(prediction.min()), float(prediction.max()))
    )
    far = max(far, near + 1e-3)
    colours = np.where((truth > 0)[..., None], colour_depth(truth, near, far), 0).astype(np.uint8)
    return side_by_side([image, colours, colour_depth(prediction, near, far), _bar(len(image), near, far)])


def colour_depth(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """Metres [...] as uint8 [..., 3]: bright at `near`, dark at `far`."""
    from matplotlib import colormaps

    shares = np.clip((far - depth) / (far - near), 0, 1)
    return (colormaps["viridis"](shares)[..., :3] * 255).round().astype(np.uint8)


def _bar(height: int, near: float, far: float) -> np.ndarray:
    from PIL import Image, ImageDraw

    depths = np.linspace(near, far, height)
    panel = np.full((height, sum(BAR), 3), 255, np.uint8)
    panel[:, : BAR[0]] = colour_depth(depths, near, far)[:, None]
    picture = Image.fromarray(panel)
    draw = ImageDraw.Draw(picture)
    for place in np.linspace(0, 1, TICKS):
        draw.text((BAR[0] + 4, place * max(height - 11, 0)), f"{near + place * (far - near):.2f} m", fill=(0, 0, 0))
    return np.asarray(picture)
