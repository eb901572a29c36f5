from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from lvd_curate.sample_corpus.render import VOID, render
from lvd_curate.sample_corpus.world import draw_scene


def scene_of(seed, label=0):
    return draw_scene(label, np.random.default_rng([77, seed]))


@pytest.mark.parametrize("seed", range(24))
def test_bodies_stand_before_the_background_and_change_no_other_depth(seed):
    scene = scene_of(seed, seed % 18)
    full, empty = render(scene), render(replace(scene, bodies=()))
    body = full.mask != 0
    assert (full.depth[body] < empty.depth[body]).all()
    np.testing.assert_array_equal(full.depth[~body], empty.depth[~body])
    assert not empty.mask.any()


@pytest.mark.parametrize("seed", range(12))
def test_later_bodies_lie_before_earlier_ones(seed):
    scene = scene_of(seed)
    for count in range(1, len(scene.bodies) + 1):
        before, after = (render(replace(scene, bodies=scene.bodies[:n])) for n in (count - 1, count))
        nearer = after.depth < before.depth
        value = VOID if scene.bodies[count - 1].label is None else 1 + scene.bodies[count - 1].label
        assert (after.mask[nearer] == value).all()
        assert (after.depth <= before.depth).all()


@pytest.mark.parametrize("seed", range(12))
def test_mask_is_where_the_paint_is(seed):
    """Repainting one object changes the picture inside its mask, and beyond it no more than the soft edge.

    That edge is a pixel wide, but at a sharp tip less than half of each of the last few pixels is covered.
    """
    scene = replace(scene_of(seed, seed), grain=0.0)
    index = next(i for i, body in enumerate(scene.bodies) if body.label == seed)
    main = scene.bodies[index]
    dark, light = ((value,) * 3 for value in (0.15, 0.85))
    first, second = (
        render(
            replace(
                scene,
                bodies=(
                    *scene.bodies[:index],
                    replace(main, paint=replace(main.paint, pattern=None, light=tone)),
                    *scene.bodies[index + 1 :],
                ),
            )
        )
        for tone in (dark, light)
    )
    changed = np.abs(first.image.astype(int) - second.image).max(axis=-1) > 8
    mask = first.mask == 1 + seed
    assert changed[mask].mean() > 0.99
    rim = ndimage.binary_dilation(mask, iterations=4)
    assert not changed[~rim].any()
    assert (changed & ~mask).sum() < 0.15 * mask.sum()


def test_background_is_made_of_planes():
    """The inverse depth of a bare wall is linear in the pixels."""
    scene = next(s for s in map(scene_of, range(100)) if len(s.planes) == 1)
    inverse = 1 / render(replace(scene, bodies=())).depth.astype(np.float64)
    rows, columns = np.indices(inverse.shape)
    design = np.stack([np.ones(inverse.size), rows.ravel(), columns.ravel()], axis=1)
    _, residual, _, _ = np.linalg.lstsq(design, inverse.ravel(), rcond=None)
    assert np.sqrt(residual[0] / inverse.size) < 1e-3 * inverse.mean()


def test_depths_are_those_of_a_room():
    depths = np.concatenate([render(scene_of(seed)).depth.ravel() for seed in range(40)])
    assert depths.min() > 150  # millimetres
    assert depths.max() <= 12_000


def test_relief_bulges_towards_the_viewer():
    scene = scene_of(1, 1)
    main = next(body for body in scene.bodies if body.label == 1)
    flat = replace(main, relief=0.0, tilt=(0.0, 0.0))
    alone = {name: render(replace(scene, bodies=(body,))) for name, body in (("flat", flat), ("round", main))}
    spread = {name: np.ptp(r.depth[r.mask == 2] / r.depth[r.mask == 2].mean()) for name, r in alone.items()}
    assert spread["flat"] < 0.002
    assert spread["round"] > 0.03


def test_objects_are_lit_from_the_lamp():
    """The side of a plain dome that faces the lamp is the brighter one."""
    scene = scene_of(0, 16)
    disc = next(body for body in scene.bodies if body.label == 16)
    plain = replace(disc, centre=(0.0, 0.0), tilt=(0.0, 0.0), paint=replace(disc.paint, pattern=None))
    for x in (-0.8, 0.8):
        lamp = np.array([x, 0.0, 0.6], np.float32)
        picture = render(replace(scene, bodies=(plain,), light=lamp, grain=0.0))
        grey, inside = picture.image.mean(axis=-1), picture.mask == 17
        columns = np.indices(grey.shape)[1]
        left, right = (
            grey[inside & side].mean() for side in (columns < grey.shape[1] / 2, columns >= grey.shape[1] / 2)
        )
        assert (right - left) * x > 0


def test_a_body_outside_the_picture_leaves_no_trace():
    scene = scene_of(2)
    away = replace(scene.bodies[0], centre=(9.0, 9.0))
    first, second = render(replace(scene, bodies=())), render(replace(scene, bodies=(away,)))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.depth, second.depth)
