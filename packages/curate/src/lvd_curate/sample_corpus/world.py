"""The rendered world in words: its classes, and the seeded draw of one scene.

A class is an outline and a pattern. Everything else about an object (hue, lightness, scale and angle of the pattern,
pose, size, place, light) is drawn freely, so that colours and raw pixels tell next to nothing of the class.

Lengths in the picture are in units of half its shorter side, origin in the middle, x right and y down. The camera is a
pinhole with focal length FOCAL in the same unit; a plane in front of it has an inverse depth that is linear in (x, y).
"""

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lvd_curate.sample_corpus.outlines import outline_area
from lvd_curate.sample_corpus.patterns import CENTRED_PATTERNS

FOCAL = 2.2  # half the shorter side is seen at atan(1 / 2.2) = 24 degrees

Tone = tuple[float, float, float]  # linear mix of red, green, blue, 0..1


@dataclass(frozen=True, kw_only=True)
class ObjectClass:
    """One kind of object: what never changes from picture to picture."""

    name: str
    outline: str
    pattern: str


SEED_CLASSES = (
    ObjectClass(name="dotted_star", outline="star", pattern="dots"),
    ObjectClass(name="striped_heart", outline="heart", pattern="stripes"),
    ObjectClass(name="checked_square", outline="square", pattern="checks"),
    ObjectClass(name="zigzag_ring", outline="ring", pattern="zigzag"),
    ObjectClass(name="scaly_drop", outline="drop", pattern="scales"),
    ObjectClass(name="speckled_crescent", outline="crescent", pattern="speckle"),
    ObjectClass(name="ringed_triangle", outline="triangle", pattern="rings"),
    ObjectClass(name="latticed_cross", outline="cross", pattern="lattice"),
    ObjectClass(name="rayed_flower", outline="flower", pattern="sectors"),
    ObjectClass(name="brick_arch", outline="arch", pattern="bricks"),
    ObjectClass(name="wavy_vase", outline="vase", pattern="waves"),
    ObjectClass(name="veined_leaf", outline="leaf", pattern="veins"),
)
OTHER_CLASSES = (
    ObjectClass(name="honeycomb_hexagon", outline="hexagon", pattern="honeycomb"),
    ObjectClass(name="dashed_hourglass", outline="hourglass", pattern="dashes"),
    ObjectClass(name="maze_gear", outline="gear", pattern="maze"),
    ObjectClass(name="plaid_arrow", outline="arrow", pattern="plaid"),
    ObjectClass(name="spiral_disc", outline="disc", pattern="spiral"),
    ObjectClass(name="eyed_clover", outline="clover", pattern="eyes"),
)
CLASSES = SEED_CLASSES + OTHER_CLASSES


@dataclass(frozen=True, kw_only=True)
class Paint:
    """A surface: two tones and the pattern that parts them (None: the light tone everywhere)."""

    light: Tone
    dark: Tone
    pattern: str | None
    frequency: float  # periods per unit of the outline
    angle: float  # radians
    phase: tuple[float, float]  # periods


@dataclass(frozen=True, kw_only=True)
class Body:
    """An object with its pose."""

    outline: str
    paint: Paint
    label: int | None  # index into CLASSES; None: clutter
    centre: tuple[float, float]
    radius: float  # half sides per unit of the outline
    turn: NDArray[np.float32]  # [2, 2] rotation, shear and stretch, determinant 1
    tilt: tuple[float, float]  # growth of the inverse depth per radius to the right and down
    relief: float  # height of the surface over its rim, in radii
    gap: float  # depth as a share of the greatest depth that leaves the body in front of all that was there before


@dataclass(frozen=True, kw_only=True)
class Plane:
    """A stretch of background: inverse depth (1/m) = at[0] + at[1] x + at[2] y; the nearest plane is seen."""

    at: tuple[float, float, float]
    tone: Tone
    stripe: tuple[float, float, float]  # periods per metre along the plane's two axes, phase
    contrast: float  # of the stripes


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything a picture is made of: rendering it draws nothing more but the sensor's noise."""

    width: int
    height: int
    planes: tuple[Plane, ...]
    clouds: NDArray[np.float32]  # [rows, columns, 3] soft unevenness of the background
    bodies: tuple[Body, ...]  # back to front
    light: NDArray[np.float32]  # [3] direction towards the lamp: right, down, to the viewer; length 1
    ambient: float
    shadow: float  # darkness of cast shadows
    grain: float  # standard deviation of the sensor's noise, of 1
    grain_seed: int


def draw_scene(label: int, rng: np.random.Generator) -> Scene:
    """Draw a picture of an object of class `CLASSES[label]`; all that is free comes from `rng`."""
    width, height = _draw_size(rng)
    half = np.array([width, height]) / min(width, height)  # the picture's corner
    main = _draw_main(label, half, rng)
    behind = [_draw_companion(main, half, rng)] if rng.random() < 0.2 else []
    before = [_draw_clutter(main, rng) for _ in range(rng.choice(4, p=(0.25, 0.4, 0.25, 0.1)))]
    azimuth, rise = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 1.1)
    light = np.array(
        [math.cos(azimuth) * math.cos(rise), math.sin(azimuth) * math.cos(rise), math.sin(rise)], np.float32
    )
    return Scene(
        width=width,
        height=height,
        planes=_draw_planes(rng),
        clouds=_draw_clouds(rng),
        bodies=(*behind, main, *before),
        light=light,
        ambient=rng.uniform(0.4, 0.6),
        shadow=rng.uniform(0.25, 0.6),
        grain=rng.uniform(0.0, 0.02),
        grain_seed=int(rng.integers(2**32)),
    )


def _draw_size(rng: np.random.Generator) -> tuple[int, int]:
    shorter = int(rng.integers(96, 145))
    longer = int(shorter * rng.choice((1.0, 1.0, rng.uniform(1.0, 1.34))))
    return (shorter, longer) if rng.random() < 0.4 else (longer, shorter)


def _draw_main(label: int, half: NDArray[np.float64], rng: np.random.Generator) -> Body:
    kind = CLASSES[label]
    share = rng.uniform(0.26, 0.55)
    radius = min(math.sqrt(share * 4 * half.prod() / outline_area(kind.outline)), rng.uniform(0.92, 1.1))
    place = rng.normal(0, 0.16, 2) * half
    return _pose(kind, label, place.clip(-0.35, 0.35), radius, rng)


def _draw_companion(main: Body, half: NDArray[np.float64], rng: np.random.Generator) -> Body:
    """A small second object of a seed class, behind the main one."""
    label = int(rng.integers(len(SEED_CLASSES)))
    place = rng.choice((-1, 1), 2) * half * rng.uniform(0.5, 0.85, 2)
    return _pose(CLASSES[label], label, place, main.radius * rng.uniform(0.3, 0.42), rng)


def _pose(kind: ObjectClass, label: int, place: NDArray[np.float64], radius: float, rng: np.random.Generator) -> Body:
    return Body(
        outline=kind.outline,
        paint=_draw_paint(kind.pattern, rng),
        label=label,
        centre=(float(place[0]), float(place[1])),
        radius=radius,
        turn=_draw_turn(rng, lean=0.75, stretch=0.16, shear=0.18),
        tilt=(rng.uniform(-0.16, 0.16), rng.uniform(-0.16, 0.16)),
        relief=rng.uniform(0.25, 0.6),
        gap=rng.uniform(0.72, 0.95),
    )


def _draw_clutter(main: Body, rng: np.random.Generator) -> Body:
    """A plain thing that covers a part of the main object's rim, or lies beside it."""
    bearing, distance = rng.uniform(0, 2 * math.pi), main.radius * rng.uniform(0.8, 1.25)
    plain = _draw_paint(None, rng)
    return Body(
        outline=str(rng.choice(("pebble", "block", "disc"))),
        paint=plain,
        label=None,
        centre=(main.centre[0] + distance * math.cos(bearing), main.centre[1] + distance * math.sin(bearing)),
        radius=main.radius * rng.uniform(0.14, 0.3),
        turn=_draw_turn(rng, lean=math.pi, stretch=0.7, shear=0.3),
        tilt=(rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1)),
        relief=rng.uniform(0.3, 0.6),
        gap=rng.uniform(0.85, 0.97),
    )


def _draw_turn(rng: np.random.Generator, *, lean: float, stretch: float, shear: float) -> NDArray[np.float32]:
    """Rotation by up to `lean` radians either way after a shear and a stretch that keep the area. [2, 2]"""
    angle, long = rng.uniform(-lean, lean), math.exp(rng.uniform(-stretch, stretch))
    cos, sin = math.cos(angle), math.sin(angle)
    skewed = np.array([[long, rng.uniform(-shear, shear)], [0, 1 / long]])
    return (np.array([[cos, -sin], [sin, cos]]) @ skewed).astype(np.float32)


def _draw_paint(pattern: str | None, rng: np.random.Generator) -> Paint:
    dark = rng.uniform(0.1, 0.4)
    light = dark + rng.uniform(0.38, 0.55)
    hue, saturation = rng.random(), rng.uniform(0.15, 0.8)
    centred = pattern in CENTRED_PATTERNS
    phase = (0.0, 0.0) if centred else (rng.random(), rng.random())
    return Paint(
        light=_tone(hue, light, saturation),
        dark=_tone(hue + rng.normal(0, 0.12), dark, saturation),
        pattern=pattern,
        frequency=rng.uniform(2.0, 2.9),
        angle=0.0 if centred else rng.uniform(-0.5, 0.5),
        phase=phase,
    )


def _tone(hue: float, lightness: float, saturation: float) -> Tone:
    """The colour of the given hue (turns), lightness and saturation (0..1)."""
    return colorsys.hls_to_rgb(hue % 1, lightness, saturation)


def _draw_planes(rng: np.random.Generator) -> tuple[Plane, ...]:
    """A wall at 2.5 to 7 m, seen aslant; often a second wall beside it, and often a floor that runs up to it."""
    far = rng.uniform(2.5, 7.0)
    slant = rng.uniform(-0.25, 0.25)
    walls = [(1.0, slant, rng.uniform(-0.1, 0.1))]
    if rng.random() < 0.4:
        turn = rng.choice((-1, 1)) * rng.uniform(0.3, 0.6)
        walls.append((1.0 - turn * rng.uniform(-0.4, 0.4), slant + turn, 0.0))
    planes = [(a / far, b / far, c / far) for a, b, c in walls]
    if rng.random() < 0.65:
        edge, steepness = (
            rng.uniform(-0.3, 0.75),
            rng.uniform(0.5, 1.6) / far,
        )  # the floor meets the first wall at y = edge
        planes.append((1 / far - steepness * edge, slant / far, steepness))
    hue, lightness = rng.random(), rng.uniform(0.3, 0.75)
    return tuple(_draw_plane(at, hue, lightness + rng.uniform(-0.15, 0.15), rng) for at in planes)


def _draw_plane(at: tuple[float, float, float], hue: float, lightness: float, rng: np.random.Generator) -> Plane:
    bearing, frequency = rng.uniform(0, 2 * math.pi), math.exp(rng.uniform(-0.7, 0.9))
    return Plane(
        at=at,
        tone=_tone(hue + rng.normal(0, 0.08), lightness, rng.uniform(0.05, 0.4)),
        stripe=(frequency * math.cos(bearing), frequency * math.sin(bearing), rng.random()),
        contrast=rng.choice((0.0, rng.uniform(0.015, 0.045))),
    )


def _draw_clouds(rng: np.random.Generator) -> NDArray[np.float32]:
    """Coarse noise, [rows, columns, 3]: mostly lightness, a little colour."""
    rows = int(rng.integers(4, 8))
    lightness = rng.normal(0, rng.uniform(0.06, 0.12), (rows, rows, 1))
    return (lightness + rng.normal(0, 0.012, (rows, rows, 3))).astype(np.float32)
