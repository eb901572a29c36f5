from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lvd_curate.copy_detection.alignment import align, compare, sample
from lvd_curate.copy_detection.views import MIRROR, VIEWS, cut, turn

Picture = Callable[..., Image.Image]
WHOLE = VIEWS[:1]


def thumb(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX)).reshape(1, -1)


def fine_picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("seed", range(5))
def test_small_crops_turns_and_shifts_align_and_strangers_do_not(seed: int) -> None:
    image = fine_picture(seed)
    edits = [
        image.crop((12, 4, 312, 226)),
        image.rotate(3, Image.Resampling.BICUBIC),
        image.transform((320, 240), Image.Transform.AFFINE, (1, 0, 8, 0, 1, -5)),
    ]
    for edit in edits:
        assert compare(thumb(image), thumb(edit), WHOLE)[0] > 0.93
    assert compare(thumb(image), thumb(fine_picture(seed + 100)), WHOLE)[0] < 0.75


def test_a_covered_strip_and_a_change_of_brightness_are_forgiven() -> None:
    image = fine_picture(7)
    covered = image.copy()
    ImageDraw.Draw(covered).rectangle((0, 211, 320, 240), fill="black")
    assert compare(thumb(image), thumb(covered), WHOLE)[0] > 0.95
    assert compare(thumb(image), thumb(image.point(lambda v: int(60 + v * 0.5))), WHOLE)[0] > 0.95


def test_a_view_brings_together_what_lies_far_apart() -> None:
    image = fine_picture(8)
    corner = image.crop((77, 58, 320, 240)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert compare(thumb(image), thumb(corner), WHOLE)[0] < 0.8
    assert compare(thumb(image), thumb(corner), cut(0.76, 1, 1)[None] * MIRROR)[0] > 0.93


def test_alignment_finds_the_turn() -> None:
    image = thumb(fine_picture(9)).astype(np.float32)
    turned = sample(image, turn(3)[None].astype(np.float32))[0]
    found = align(image, turned, WHOLE.astype(np.float32))[0]
    np.testing.assert_allclose(found, turn(3), atol=0.02)


def test_a_pair_scores_the_same_alone_and_in_company() -> None:
    left = np.concatenate([thumb(fine_picture(seed)) for seed in range(40)])
    right = np.concatenate([thumb(fine_picture(seed // 2 * 2)) for seed in range(40)])
    views = np.repeat(WHOLE, 40, axis=0)
    together = compare(left, right, views)
    alone = [compare(left[n : n + 1], right[n : n + 1], WHOLE)[0] for n in range(40)]
    np.testing.assert_array_equal(together, alone)


def test_flat_thumbnails_are_like_nothing_and_no_pairs_are_none() -> None:
    flat = np.full((1, 1024), 9, dtype=np.uint8)
    assert compare(flat, flat, WHOLE)[0] == 0
    assert compare(flat[:0], flat[:0], WHOLE[:0]).shape == (0,)
