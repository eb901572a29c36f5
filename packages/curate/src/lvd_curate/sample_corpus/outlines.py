"""Outlines of the rendered world: what shape an object has.

An outline is an implicit function of the object's own plane: it takes coordinates `u` (right) and `v` (up), float32
of any one shape, and returns a value of that shape that is -1 at the deepest inside, 0 on the contour and positive
outside. The same number serves as silhouette (its sign), as soft edge (its slope) and as relief (its depth).
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Outline = Callable[[Array, Array], Array]

REACH = 1.35  # every outline lies inside this distance from its origin


def _radial(radius: Callable[[Array], Array]) -> Outline:
    """Star-shaped outline with its contour at distance `radius(angle)` from the origin."""

    def outline(u: Array, v: Array) -> Array:
        return np.hypot(u, v) / radius(np.arctan2(v, u)) - 1

    return outline


def _distance(signed: Outline) -> Outline:
    """Outline from a signed distance to its contour, scaled so that the deepest inside is -1."""
    side = np.linspace(-REACH, REACH, 271, dtype=np.float32)
    deepest = -float(signed(*np.meshgrid(side, side)).min())

    def outline(u: Array, v: Array) -> Array:
        return signed(u, v) / deepest

    return outline


def _profile(half_width: Callable[[Array], Array]) -> Outline:
    """Outline that is mirror-symmetric about the v axis, `half_width(v)` wide on each side, for |v| <= 1."""

    def signed(u: Array, v: Array) -> Array:
        return np.maximum(np.abs(u) - half_width(np.clip(v, -1, 1)), np.abs(v) - 1)

    return _distance(signed)


def _spiked(points: int, inner: float) -> Outline:
    """Straight-edged star: `points` tips at radius 1, notches at `inner`; at cos(pi / points) it is a polygon."""
    sector = np.float32(np.pi / points)
    notch = inner * np.sin(sector)

    def radius(angle: Array) -> Array:
        from_tip = np.abs(np.remainder(angle + sector, 2 * sector) - sector)
        return notch / (inner * np.sin(sector - from_tip) + np.sin(from_tip))

    return _radial(radius)


def _lobed(lobes: int, mean: float, depth: float, sharpness: float = 0.0) -> Outline:
    """Round outline whose radius waves `lobes` times; `sharpness` squares the wave off into teeth."""

    def radius(angle: Array) -> Array:
        wave = np.sin(lobes * angle)
        return mean + depth * (np.tanh(sharpness * wave) if sharpness else wave)

    return _radial(radius)


def _ring(u: Array, v: Array) -> Array:
    return np.abs(np.hypot(u, v) - 0.7) / 0.3 - 1


def _crescent(u: Array, v: Array) -> Array:
    bite = 0.72 - np.hypot(u - 0.52, v)
    return np.maximum(np.hypot(u, v) - 1, bite) / 0.4


def _cross(u: Array, v: Array) -> Array:
    a, b = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(a / 0.34, b), np.maximum(a, b / 0.34)) - 1


def _heart(u: Array, v: Array) -> Array:
    lifted = 1.15 * v + 0.12 - 0.62 * np.sqrt(np.abs(u) + 1e-6)
    return np.hypot(1.1 * u, lifted) - 1


def _arch(u: Array, v: Array) -> Array:
    bow = np.hypot(u, np.maximum(v - 0.25, 0)) - 0.65
    return np.maximum(np.abs(bow) / 0.3, -v / 0.9) - 1


def _arrow(u: Array, v: Array) -> Array:
    head = np.maximum(0.72 * (np.abs(u) - 0.95 * (1 - v)), np.abs(v - 0.4) - 0.6)
    shaft = np.maximum(np.abs(u) - 0.32, np.abs(v + 0.45) - 0.55)
    return np.minimum(head, shaft)


def _leaf_width(v: Array) -> Array:
    return 0.55 * (1 - v * v)


def _drop_width(v: Array) -> Array:
    return 0.95 * np.sqrt(1 - v * v) * (1 - v) ** 0.8 * 0.7


def _hourglass_width(v: Array) -> Array:
    return 0.18 + 0.62 * np.abs(v)


def _vase_width(v: Array) -> Array:
    return 0.5 + 0.24 * np.sin(4.2 * v + 3.6)


def _pebble_radius(angle: Array) -> Array:
    return 0.88 + 0.08 * np.sin(2 * angle + 0.7) + 0.05 * np.sin(3 * angle)


def _block(u: Array, v: Array) -> Array:
    return (u**6 + v**6) ** (1 / 6) - 1


OUTLINES: dict[str, Outline] = {
    "star": _spiked(5, 0.45),
    "triangle": _spiked(3, 0.5),
    "square": _spiked(4, float(np.cos(np.pi / 4))),
    "hexagon": _spiked(6, float(np.cos(np.pi / 6))),
    "spark": _spiked(8, 0.55),
    "disc": _lobed(1, 1.0, 0.0),
    "flower": _lobed(6, 0.8, 0.2),
    "clover": _lobed(3, 0.68, 0.32),
    "gear": _lobed(10, 0.88, 0.12, sharpness=4.0),
    "ring": _ring,
    "crescent": _crescent,
    "cross": _cross,
    "heart": _heart,
    "arch": _arch,
    "arrow": _distance(_arrow),
    "leaf": _profile(_leaf_width),
    "drop": _profile(_drop_width),
    "hourglass": _profile(_hourglass_width),
    "vase": _profile(_vase_width),
    "pebble": _radial(_pebble_radius),
    "block": _block,
}


@cache
def outline_area(name: str) -> float:
    """Area of the outline in its own square units, so that poses can ask for a share of the picture."""
    side = np.linspace(-REACH, REACH, 257, dtype=np.float32)
    u, v = np.meshgrid(side, side)
    return float((OUTLINES[name](u, v) < 0).mean() * (2 * REACH) ** 2)
