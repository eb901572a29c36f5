"""Patterns of the rendered world: what is painted on an object's surface.

A pattern is a function of surface coordinates `p`, `q` (float32, one shape, one unit = one period of the pattern).
It returns a field of that shape whose sign is the paint (positive: light tone, negative: dark tone) and whose size is
about the distance to the nearest change of paint, in periods: divided by the size of a pixel it gives edges without
jags.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Pattern = Callable[[Array, Array], Array]


def _from_edge(p: Array) -> Array:
    """Distance of each coordinate to the nearest whole number, 0 .. 0.5."""
    return np.abs(p - np.rint(p))


def _bands(p: Array, share: float = 0.5) -> Array:
    """Alternating bands along p, `share` of each period light."""
    return _from_edge(p) - (1 - share) / 2


def _cell_noise(i: Array, j: Array, salt: int) -> Array:
    """Uniform [0, 1) number for each whole-numbered cell: an integer hash, the same on every machine."""
    key = i.astype(np.int64) * 374761393 + j.astype(np.int64) * 668265263 + salt * 2246822519
    key = (key ^ (key >> 13)) * 1274126177
    return (((key ^ (key >> 16)) & 0xFFFF) / 65536).astype(np.float32)


def _dots(p: Array, q: Array) -> Array:
    row = np.floor(q)
    across = p + 0.5 * np.remainder(row, 2)
    return 0.32 - np.hypot(across - np.floor(across) - 0.5, q - row - 0.5)


def _stripes(p: Array, q: Array) -> Array:
    return _bands(p)


def _checks(p: Array, q: Array) -> Array:
    a, b = _bands(p), _bands(q)
    return np.sign(a * b) * np.minimum(np.abs(a), np.abs(b))


def _zigzag(p: Array, q: Array) -> Array:
    return 0.64 * _bands(p + 2.4 * _from_edge(0.5 * q))


def _scales(p: Array, q: Array) -> Array:
    """Overlapping rows of round tiles: dark rims of circles, each row laid over the one above it."""
    row = np.floor(q)
    nearest = np.full_like(p, 9.0)
    for lower in (1, 0):
        across = p + 0.5 * np.remainder(row - lower, 2)
        reach = np.hypot(across - np.rint(across), (q - row + lower) * 0.62)
        nearest = np.where(reach < 0.62, 0.62 - reach, nearest)
    return nearest - 0.17


def _speckle(p: Array, q: Array) -> Array:
    """Round spots of random size, one per cell, moved off the cell's centre."""
    i, j = np.floor(p), np.floor(q)
    size = 0.12 + 0.28 * _cell_noise(i, j, 1)
    room = 0.46 - size
    x = p - i - 0.5 + room * (2 * _cell_noise(i, j, 2) - 1)
    y = q - j - 0.5 + room * (2 * _cell_noise(i, j, 3) - 1)
    return size - np.hypot(x, y)


def _rings(p: Array, q: Array) -> Array:
    return _bands(np.hypot(p, q))


def _lattice(p: Array, q: Array) -> Array:
    return 0.14 - np.minimum(_from_edge(p), _from_edge(q))


def _sectors(p: Array, q: Array) -> Array:
    radius = np.hypot(p, q)
    return _bands(np.arctan2(q, p) * (7 / (2 * np.pi))) * np.minimum(radius, 2.0) * 0.8


def _bricks(p: Array, q: Array) -> Array:
    row = np.floor(1.6 * q)
    upright = _from_edge(0.8 * p + 0.5 * np.remainder(row, 2)) / 0.8
    return np.minimum(upright, _from_edge(1.6 * q) / 1.6) - 0.09


def _waves(p: Array, q: Array) -> Array:
    return 0.6 * _bands(1.2 * q + 0.42 * np.sin(2 * np.pi * 0.6 * p))


def _veins(p: Array, q: Array) -> Array:
    """Ribs that leave a midrib on both sides at an angle."""
    ribs = _from_edge(q - 0.8 * np.abs(p)) - 0.2
    return 0.8 * np.minimum(ribs, np.abs(p) - 0.18)


def _honeycomb(p: Array, q: Array) -> Array:
    """Hexagonal cells round the points of a triangular lattice, dark walls between them."""
    row = np.rint(q / 0.866)
    across = p - 0.5 * row
    x, y = np.abs(across - np.rint(across)), np.abs(q - 0.866 * row)
    return 0.38 - np.maximum(x, 0.5 * x + 0.866 * y)


def _eyes(p: Array, q: Array) -> Array:
    """A lattice of round spots with a ring round each."""
    radius = np.hypot(p - np.rint(p), q - np.rint(q))
    return np.maximum(0.12 - radius, 0.09 - np.abs(radius - 0.33))


def _dashes(p: Array, q: Array) -> Array:
    row = np.rint(1.5 * q)
    along = 0.6 * p + 0.37 * row
    return np.minimum(0.17 - np.abs(q - row / 1.5), (0.34 - _from_edge(along)) / 0.6)


def _maze(p: Array, q: Array) -> Array:
    """One diagonal stroke per cell, leaning left or right at random."""
    i, j = np.floor(p), np.floor(q)
    x, y = p - i, q - j
    x = np.where(_cell_noise(i, j, 4) < 0.5, x, 1 - x)
    return 0.21 - 0.7 * np.minimum(np.abs(x - y), np.abs(1 - np.abs(x - y)))


def _plaid(p: Array, q: Array) -> Array:
    return np.minimum(_bands(0.6 * p, 0.7), _bands(0.6 * q, 0.7)) + 0.5 * np.minimum(0.0, _from_edge(0.6 * p) - 0.06)


def _spiral(p: Array, q: Array) -> Array:
    return _bands(np.hypot(p, q) + np.arctan2(q, p) * (2 / (2 * np.pi)))


PATTERNS: dict[str, Pattern] = {
    "dots": _dots,
    "stripes": _stripes,
    "checks": _checks,
    "zigzag": _zigzag,
    "scales": _scales,
    "speckle": _speckle,
    "rings": _rings,
    "lattice": _lattice,
    "sectors": _sectors,
    "bricks": _bricks,
    "waves": _waves,
    "veins": _veins,
    "honeycomb": _honeycomb,
    "eyes": _eyes,
    "dashes": _dashes,
    "maze": _maze,
    "plaid": _plaid,
    "spiral": _spiral,
}
CENTRED_PATTERNS = frozenset({"rings", "sectors", "spiral", "veins"})  # laid out from the object's middle, not shifted
