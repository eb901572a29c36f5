import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dctn

from lvd_curate.copy_detection.hashing import content_id, hash_views, lowest_frequencies, pack_halves, perceptual_hash
from lvd_curate.copy_detection.views import VIEWS, look_through
from lvd_curate.inputs.images import decode_thumbnail

Picture = Callable[..., Image.Image]


def grey_of(image: Image.Image, quality: int = 95) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return decode_thumbnail(buffer.getvalue(), min_side=1, max_pixels=10**7, max_aspect=20).grey


def hash_of(grey: np.ndarray) -> tuple[int, int]:
    halves = perceptual_hash(grey)
    assert halves is not None
    return halves


def distance(left: np.ndarray, right: np.ndarray) -> int:
    return sum((a ^ b).bit_count() for a, b in zip(hash_of(left), hash_of(right), strict=True))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, len(VIEWS) - 1))
def test_the_mirrored_hash_is_that_of_the_mirror_image(seed: int, view: int) -> None:
    grey = np.random.default_rng(seed).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    plain, mirrored = hash_views(grey.reshape(3, -1), 0)
    again, back = hash_views(grey[:, :, ::-1].reshape(3, -1), 0)
    np.testing.assert_array_equal(mirrored, again)
    np.testing.assert_array_equal(plain, back)
    assert [a.shape for a in hash_views(grey.reshape(3, -1), view)] == [(3, 16), (3, 16)]


def test_hashes_do_not_depend_on_how_many_are_computed_together() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (50, 1024), dtype=np.uint8)
    together = hash_views(grey, 7)[0]
    np.testing.assert_array_equal(together, np.concatenate([hash_views(grey[n : n + 1], 7)[0] for n in range(50)]))
    halves = np.array([hash_of(row.reshape(32, 32)) for row in grey], dtype=np.uint64)
    np.testing.assert_array_equal(pack_halves(halves[:, 0], halves[:, 1]), hash_views(grey, 0)[0])


def test_the_hash_of_a_view_is_the_hash_of_what_it_shows() -> None:
    grey = np.random.default_rng(1).integers(0, 256, (20, 1024), dtype=np.uint8)
    shown = np.rint(grey @ look_through(VIEWS[2]).T).astype(np.uint8)
    assert np.bitwise_count(hash_views(grey, 2)[0] ^ hash_views(shown, 0)[0]).sum(axis=1).max() <= 4  # rounding


def test_one_half_holds_the_signs_of_the_lowest_frequencies() -> None:
    grey = np.random.default_rng(2).integers(0, 256, (32, 32), dtype=np.uint8)
    rows, columns = lowest_frequencies(64).T
    signs = dctn(grey.astype(float))[rows, columns] > 0
    assert hash_of(grey)[1] == sum(1 << bit for bit in range(64) if signs[bit])


def test_the_other_half_tells_where_it_grows_brighter() -> None:
    down, right = np.indices((32, 32)).astype(np.uint8)
    assert hash_of(right * 4)[0].bit_count() == 32  # the cells that compare to the right
    assert hash_of(right * 4)[0] ^ hash_of(down * 4)[0] == 2**64 - 1
    covered = (right * 4 + down * 4).astype(np.uint8)
    covered[28:] = 0
    assert (
        hash_of(covered)[0] ^ hash_of(right * 4 + down * 4)[0]
    ).bit_count() <= 12  # a row of cells and what compares to it


@pytest.mark.parametrize("seed", range(20))
def test_copies_stay_close_and_strangers_far(picture: Picture, seed: int) -> None:
    image = picture(seed, (160, 120))
    own = grey_of(image)
    for copy in (image.resize((80, 60)), image.resize((240, 180)), image.convert("L").convert("RGB")):
        assert distance(own, grey_of(copy)) <= 12
    assert distance(own, grey_of(image, quality=30)) <= 12
    assert distance(own, grey_of(picture(seed + 1000, (160, 120)))) > 26


def test_images_without_structure_have_no_hash() -> None:
    assert perceptual_hash(np.full((32, 32), 77, dtype=np.uint8)) is None


def test_ids_are_sha256() -> None:
    assert content_id(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
