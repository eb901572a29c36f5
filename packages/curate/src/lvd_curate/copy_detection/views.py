"""Ways to look at a thumbnail: whole, without its margin, cut to a side or corner, slightly turned; each also mirrored.

A crop of a picture looks like a view of the picture; a picture with a frame has a view that looks like the picture. A
view is an affine map from its own square, both axes from -1 to 1, into the square of the thumbnail.
"""

import numpy as np

from lvd_curate.inputs.images import THUMBNAIL_SIDE


def cut(keep: float, right: int = 0, down: int = 0) -> np.ndarray:
    """Return the view of so much of the width and height: in the middle, or as far to the right and down as it goes."""
    return np.array([[keep, 0, right * (1 - keep)], [0, keep, down * (1 - keep)]])


def turn(degrees: float) -> np.ndarray:
    """Return the view of a thumbnail that was turned back by so many degrees."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine, 0], [sine, cosine, 0]])


SIDES = (-1, 0, 1)
# Spaced so that the hash, which forgives about 4 % of misplacement, leaves no gap: measured by planted_copies.py.
VIEWS = np.stack(
    [cut(1), cut(0.95), cut(0.86), turn(4), turn(-4)]
    + [cut(0.9, right, down) for right in (-1, 1) for down in (-1, 1)]
    + [cut(0.76, right, down) for right in SIDES for down in SIDES]
)  # float64 [18, 2, 3]; the first is the whole thumbnail
MIRROR = np.array([-1.0, 1.0, 1.0])  # times a view's columns: the view's own left becomes its right


def look_through(view: np.ndarray) -> np.ndarray:
    """Return the matrix float64 [1024, 1024] that takes a thumbnail's pixels to those of a view, bilinearly."""
    side = THUMBNAIL_SIDE
    across, down, _ = pixel_centres().T.astype(np.float64)
    source = view @ np.stack([across, down, np.ones_like(across)])  # [2, 1024]
    place = np.clip((source + 1) * side / 2 - 0.5, 0, side - 1)
    corner = np.minimum(place.astype(int), side - 2)
    part = place - corner
    matrix = np.zeros((side * side, side * side))
    for step in np.ndindex(2, 2):
        weight = np.prod([part[axis] if step[axis] else 1 - part[axis] for axis in (0, 1)], axis=0)
        matrix[np.arange(side * side), (corner[1] + step[1]) * side + corner[0] + step[0]] += weight
    return matrix


def pixel_centres() -> np.ndarray:
    """Return (x, y, 1) of every pixel of a thumbnail, row by row, float32 [1024, 3]."""
    middle = (np.arange(THUMBNAIL_SIDE, dtype=np.float32) + 0.5) * 2 / THUMBNAIL_SIDE - 1
    down, across = np.meshgrid(middle, middle, indexing="ij")
    return np.stack([across.ravel(), down.ravel(), np.ones(THUMBNAIL_SIDE**2, dtype=np.float32)], axis=1)
