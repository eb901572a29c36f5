import io

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from lvd_curate.sample_corpus.copies import encode_jpeg, encode_png, make_copy
from lvd_curate.sample_corpus.render import render
from lvd_curate.sample_corpus.world import draw_scene


@pytest.fixture(scope="module")
def original():
    return encode_jpeg(Image.fromarray(render(draw_scene(4, np.random.default_rng(9))).image), 92)


def made(method, data, **parameters):
    return make_copy(method, data, parameters, np.random.default_rng(0))


def opened(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def difference(a, b):
    return np.abs(np.asarray(a, int) - np.asarray(b, int)).mean()


def test_exact_copy(original):
    assert made("bytes", original) == original


def test_lower_quality_takes_fewer_bytes_and_looks_the_same(original):
    rough, fine = made("recompress", original, quality=30), made("recompress", original, quality=90)
    assert len(rough) < len(fine)
    assert 0 < difference(opened(fine), opened(original)) < difference(opened(rough), opened(original)) < 12


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_resize(original, scale):
    picture, copy = opened(original), opened(made("resize", original, scale=scale, quality=90))
    assert copy.size == (round(picture.width * scale), round(picture.height * scale))
    assert difference(copy.resize((32, 32)), picture.resize((32, 32))) < 4


def test_crop_is_a_window_of_the_original(original):
    picture = opened(original)
    copy = opened(made("crop", original, left=0.1, top=0.05, keep=0.8, quality=95))
    left, top = round(0.1 * picture.width), round(0.05 * picture.height)
    window = picture.crop((left, top, left + copy.width, top + copy.height))
    assert copy.width == round(0.8 * picture.width)
    assert difference(copy, window) < 5


def test_flip_is_mirrored(original):
    copy = opened(made("flip", original, quality=95))
    assert difference(copy.transpose(Image.Transpose.FLIP_LEFT_RIGHT), opened(original)) < 5
    assert difference(copy, opened(original)) > 10


def test_colour_changes_colour_but_not_layout(original):
    picture = opened(original)
    copy = opened(made("colour", original, brightness=0.7, contrast=1.2, saturation=0.6, quality=90))
    grey, other = (np.asarray(image.convert("L"), float).ravel() for image in (picture, copy))
    assert difference(copy, picture) > 8
    assert np.corrcoef(grey, other)[0, 1] > 0.95


def test_caption_is_a_bar_with_words_under_the_picture(original):
    picture, copy = opened(original), opened(made("caption", original, height=0.2, words=4, quality=95))
    bar = np.asarray(copy.convert("L"))[picture.height + 2 :]
    assert copy.height == picture.height + round(0.2 * picture.height)
    assert np.median(bar) > 240
    assert bar.min() < 90
    assert difference(copy.crop((0, 0, *picture.size)), picture) < 5


@pytest.mark.parametrize(
    ("method", "parameters"), [("truncated", {"keep": 0.5}), ("empty", {}), ("random", {"bytes": 500})]
)
def test_broken_files_cannot_be_decoded(original, method, parameters):
    data = made(method, original, **parameters)
    with pytest.raises((OSError, UnidentifiedImageError)):
        Image.open(io.BytesIO(data)).load()


def test_mislabelled_files_are_not_jpeg(original):
    png = Image.open(io.BytesIO(made("png", original)))
    assert png.format == "PNG"
    assert difference(png, opened(original)) == 0
    assert made("html", original).startswith(b"<!DOCTYPE html>")
    assert made("text", original).decode().isprintable() or made("text", original).endswith(b"\n")


def test_png_keeps_sixteen_bits():
    depth = np.array([[1, 300], [40_000, 65_535]], np.uint16)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(Image.fromarray(depth))))), depth)
