import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dct

from lvd_curate.hashing import FLIP_MASK, content_id, correlate, perceptual_hash, shrink_thumbnail, stack_thumbnails
from lvd_curate.images import decode_thumbnail

Picture = Callable[..., Image.Image]


def grey_of(image: Image.Image, quality: int = 95) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return decode_thumbnail(buffer.getvalue(), min_side=1, max_pixels=10**7, max_aspect=20).grey


def distance(left: int | None, right: int | None) -> int:
    assert left is not None
    assert right is not None
    return (left ^ right).bit_count()


@given(st.integers(0, 2**32 - 1))
def test_mirroring_inverts_exactly_the_flip_bits(seed: int) -> None:
    grey = np.random.default_rng(seed).uniform(0, 255, (32, 32)).astype(np.float32)
    plain, mirrored = perceptual_hash(grey), perceptual_hash(grey[:, ::-1])
    assert distance(plain, mirrored ^ int(FLIP_MASK)) <= 1  # a coefficient of nearly zero may fall either way


def test_bits_are_signs_of_the_lowest_frequencies() -> None:
    columns = np.mgrid[0:32, 0:32][1]
    lowest = 128 + 60 * np.cos(np.pi * (columns + 0.5) / 32)  # frequency (0, 1) alone
    spectrum = dct(dct(lowest, axis=0, norm="ortho"), axis=1, norm="ortho")
    assert abs(spectrum[0, 1]) > 100 * np.abs(np.delete(spectrum.ravel(), [0, 1])).max()
    noise = np.random.default_rng(0).normal(0, 1, (32, 32))
    first, second = perceptual_hash(lowest + noise), perceptual_hash(256 - lowest + noise)
    assert first is not None
    assert second is not None
    assert (first ^ second) & int(FLIP_MASK)


@pytest.mark.parametrize("seed", range(20))
def test_copies_stay_close_and_strangers_far(picture: Picture, seed: int) -> None:
    image = picture(seed, (160, 120))
    own = perceptual_hash(grey_of(image))
    for copy in (image.resize((80, 60)), image.resize((240, 180)), image.convert("L").convert("RGB")):
        assert distance(own, perceptual_hash(grey_of(copy))) <= 11
    assert distance(own, perceptual_hash(grey_of(image, quality=30))) <= 11
    assert distance(own, perceptual_hash(grey_of(picture(seed + 1000, (160, 120))))) > 11


def test_images_without_structure_have_no_hash() -> None:
    assert perceptual_hash(np.full((32, 32), 77, dtype=np.float32)) is None


def test_thumbnails_correlate_with_their_mirror_image_and_not_with_strangers(picture: Picture) -> None:
    thumbs = [shrink_thumbnail(grey_of(image)) for image in (picture(1), picture(1).transpose(0), picture(2))]
    stacked = stack_thumbnails(thumbs)
    assert correlate(stacked[:1], stacked[1:2])[0] > 0.98
    assert correlate(stacked[:1], stacked[2:])[0] < 0.8
    np.testing.assert_allclose(np.linalg.norm(stacked, axis=1), 1, rtol=1e-5)


def test_a_flat_thumbnail_is_like_nothing() -> None:
    flat = stack_thumbnails([bytes(256), bytes(256)])
    assert correlate(flat[:1], flat[1:])[0] == 0


def test_ids_are_sha256() -> None:
    assert content_id(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
