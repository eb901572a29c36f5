"""From a scene to its picture, its mask and its depth map.

The painter's order and the depth map agree by construction: a body's depth is its own plane times its relief, scaled
so that it lies in front of whatever was seen at its pixels before it was laid down.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from lvd_curate.sample_corpus.outlines import OUTLINES, REACH
from lvd_curate.sample_corpus.patterns import PATTERNS
from lvd_curate.sample_corpus.world import FOCAL, Body, Paint, Plane, Scene

Array = NDArray[np.floating]
BACKGROUND, VOID = 0, 255  # mask values; an object of CLASSES[label] is 1 + label


@dataclass(frozen=True)
class Rendering:
    """A picture and what is known of it."""

    image: NDArray[np.uint8]  # [H, W, 3]
    mask: NDArray[np.uint8]  # [H, W]: BACKGROUND, 1 + label, VOID for clutter
    depth: NDArray[np.uint16]  # [H, W], millimetres along the camera's axis


@dataclass
class _Canvas:
    """The picture while it is being painted."""

    colour: Array  # [H, W, 3], 0..1
    mask: NDArray[np.uint8]  # [H, W]
    depth: Array  # [H, W], metres
    x: Array  # [W], half sides
    y: Array  # [H]
    half_side: float  # pixels


def render(scene: Scene) -> Rendering:
    """Paint the background, then every body from back to front, then let the sensor add its noise."""
    canvas = _paint_background(scene)
    for body in scene.bodies:
        _paint_body(canvas, body, scene)
    noise = np.random.default_rng(scene.grain_seed).standard_normal(canvas.colour.shape, dtype=np.float32)
    image = np.clip(255 * (canvas.colour + scene.grain * noise) + 0.5, 0, 255).astype(np.uint8)
    return Rendering(image, canvas.mask, np.rint(1000 * canvas.depth).astype(np.uint16))


def _paint_background(scene: Scene) -> _Canvas:
    half_side = min(scene.width, scene.height) / 2
    x = ((np.arange(scene.width, dtype=np.float32) + 0.5) - scene.width / 2) / np.float32(half_side)
    y = ((np.arange(scene.height, dtype=np.float32) + 0.5) - scene.height / 2) / np.float32(half_side)
    inverse = np.stack([a + b * x + c * y[:, None] for a, b, c in (plane.at for plane in scene.planes)])  # [P, H, W]
    nearest = inverse.argmax(axis=0)
    depth = 1 / np.maximum(inverse.max(axis=0), 1 / 12)  # a haze closes the view at 12 m
    colour = np.stack([_enlarge(scene.clouds[..., c], scene.width, scene.height) for c in range(3)], axis=-1)
    for index, plane in enumerate(scene.planes):
        colour += (nearest == index)[..., None] * _plane_colour(plane, x, y, depth)
    return _Canvas(np.clip(colour, 0.02, 0.98), np.zeros(depth.shape, np.uint8), depth, x, y, half_side)


def _plane_colour(plane: Plane, x: Array, y: Array, depth: Array) -> Array:
    """Flat tone with soft stripes laid on the plane itself, so that they run together in the distance. [H, W, 3]"""
    along = plane.stripe[0] * (x * depth) + plane.stripe[1] * ((y[:, None] + 1) * depth)
    stripes = plane.contrast * np.sin(2 * np.pi * (along + plane.stripe[2]))
    return np.array(plane.tone, np.float32) + stripes[..., None].astype(np.float32)


def _enlarge(coarse: Array, width: int, height: int) -> Array:
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def _paint_body(canvas: _Canvas, body: Body, scene: Scene) -> None:
    """Cast the body's shadow, then lay its colour, mask and depth over the canvas within its bounding box."""
    box = _bounding_box(canvas, body)
    if box is None:
        return
    rows, columns = box
    u, v, inverse = _to_surface(body, canvas.x[columns], canvas.y[rows])
    level = OUTLINES[body.outline](u, v)  # [h, w]
    slope = np.hypot(*np.gradient(level)) + 1e-4
    cover = np.clip(0.5 - level / slope, 0, 1)  # share of each pixel that the body covers
    inside = cover >= 0.5
    if not inside.any():
        return
    height = np.sqrt(np.clip(1 - (1 + np.minimum(level, 0)) ** 2, 0, 1))  # 0 on the rim, 1 at the deepest inside
    form = (1 - body.relief * body.radius / FOCAL * height) / inverse  # depth in units of the plane's own
    before = canvas.depth[rows, columns]
    depth = form * (body.gap * (before[inside] / form[inside]).min())

    _cast_shadow(canvas, cover, rows, columns, body, scene)
    colour = _surface_colour(body, u, v, canvas.half_side) * _shading(height, body, canvas.half_side, scene)[..., None]
    under = canvas.colour[rows, columns]
    canvas.colour[rows, columns] = under + cover[..., None] * (np.clip(colour, 0, 1) - under)
    canvas.mask[rows, columns][inside] = VOID if body.label is None else 1 + body.label
    before[inside] = depth[inside]


def _bounding_box(canvas: _Canvas, body: Body) -> tuple[slice, slice] | None:
    """Rows and columns that can hold the body; None if it lies outside the picture."""
    reach = REACH * body.radius * float(np.linalg.norm(body.turn, 2)) * (1 + 2 * max(map(abs, body.tilt)))
    left, right = np.searchsorted(canvas.x, (body.centre[0] - reach, body.centre[0] + reach))
    top, bottom = np.searchsorted(canvas.y, (body.centre[1] - reach, body.centre[1] + reach))
    if right - left < 2 or bottom - top < 2:
        return None
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def _to_surface(body: Body, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Pixels to the body's own plane: coordinates u, v and relative inverse depth, each [h, w]."""
    dx = (x[None] - np.float32(body.centre[0])) / np.float32(body.radius)
    dy = (y[:, None] - np.float32(body.centre[1])) / np.float32(body.radius)
    inverse = np.maximum(1 + np.float32(body.tilt[0]) * dx + np.float32(body.tilt[1]) * dy, np.float32(0.2))
    back = np.linalg.inv(body.turn).astype(np.float32)
    return (back[0, 0] * dx + back[0, 1] * dy) / inverse, -(back[1, 0] * dx + back[1, 1] * dy) / inverse, inverse


def _surface_colour(body: Body, u: Array, v: Array, half_side: float) -> Array:
    """Two tones parted by the pattern, its edges softened over about a pixel. [h, w, 3]"""
    light, dark = np.array(body.paint.light, np.float32), np.array(body.paint.dark, np.float32)
    if body.paint.pattern is None:
        return np.broadcast_to(light, (*u.shape, 3))
    p, q = _pattern_coordinates(body.paint, u, v)
    pixel = body.paint.frequency / (body.radius * half_side)  # in periods
    share = np.clip(0.5 + PATTERNS[body.paint.pattern](p, q) / np.float32(1.2 * pixel), 0, 1)
    return dark + share[..., None] * (light - dark)


def _pattern_coordinates(paint: Paint, u: Array, v: Array) -> tuple[Array, Array]:
    cos, sin = np.float32(paint.frequency * np.cos(paint.angle)), np.float32(paint.frequency * np.sin(paint.angle))
    return cos * u - sin * v + np.float32(paint.phase[0]), sin * u + cos * v + np.float32(paint.phase[1])


def _shading(height: Array, body: Body, half_side: float, scene: Scene) -> Array:
    """Ambient light plus Lambert's cosine over the relief. [h, w]"""
    steep = np.float32(body.relief * body.radius * half_side)  # pixels from rim to top
    down, right = (np.clip(steep * slope, -1.5, 1.5) for slope in np.gradient(height))
    facing = (scene.light[2] - scene.light[0] * right - scene.light[1] * down) / np.sqrt(1 + right**2 + down**2)
    return scene.ambient + (1.15 - scene.ambient) * np.maximum(facing, 0) / scene.light[2] ** 0.5


def _cast_shadow(canvas: _Canvas, cover: Array, rows: slice, columns: slice, body: Body, scene: Scene) -> None:
    """Darken what lies behind, away from the lamp; the wider the gap, the farther and the softer."""
    throw = canvas.half_side * body.radius * (0.12 + 0.6 * (1 - body.gap))
    shade = Image.new("L", (scene.width, scene.height))
    offset = (round(columns.start - float(scene.light[0]) * throw), round(rows.start - float(scene.light[1]) * throw))
    shade.paste(Image.fromarray((255 * cover).astype(np.uint8)), offset)
    soft = shade.filter(ImageFilter.GaussianBlur(0.02 * canvas.half_side + 0.25 * throw))
    canvas.colour *= 1 - np.float32(scene.shadow / 255) * np.asarray(soft, np.float32)[..., None]
