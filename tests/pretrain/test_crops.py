import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as F

from lvd_pretrain.config import CropsConfig
from lvd_pretrain.crops import cut, decode, multi_crop, random_box


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "data",
    [
        encode(PICTURE, "JPEG"),
        encode(PICTURE.convert("L"), "JPEG"),
        encode(PICTURE.convert("CMYK"), "JPEG"),
        encode(PICTURE, "PNG"),
        encode(PICTURE.convert("P"), "PNG"),
        encode(PICTURE.convert("RGBA"), "PNG"),
        encode(PICTURE, "WEBP"),
        encode(PICTURE, "GIF"),
    ],
    ids=["jpeg", "gray", "cmyk", "png", "palette", "alpha", "webp", "gif"],
)
def test_every_kind_of_file_decodes_to_rgb(data):
    image = decode(data)
    assert image.shape == (3, 20, 30)
    assert image.dtype == torch.uint8
    assert abs(image.float().mean() - np.asarray(PICTURE).mean()) < 40


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert decode(encode(PICTURE, "JPEG", exif=exif)).shape == (3, 30, 20)


@pytest.mark.parametrize("data", [b"", b"<html>", encode(PICTURE, "JPEG")[:200], encode(PICTURE, "PNG")[:200]])
def test_broken_files_raise_what_the_loader_skips(data):
    with pytest.raises(ValueError, match="unreadable image"):
        decode(data)


@given(height=st.integers(1, 300), width=st.integers(1, 300), low=st.floats(0.05, 0.9), seed=st.integers(0, 2**32))
def test_boxes_lie_inside_the_image(height, width, low, seed):
    top, left, h, w = random_box(height, width, (low, 1.0), np.random.default_rng(seed))
    assert 0 <= top <= top + h <= height
    assert 0 <= left <= left + w <= width
    assert h > 0
    assert w > 0


def test_areas_follow_the_scale():
    rng = np.random.default_rng(0)
    areas = [h * w / 1e6 for _, _, h, w in (random_box(1000, 1000, (0.05, 0.32), rng) for _ in range(500))]
    assert min(areas) > 0.045
    assert max(areas) < 0.33
    assert np.mean(areas) == pytest.approx((0.05 + 0.32) / 2, abs=0.02)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("box", [(0, 0, 20, 30), (3, 5, 9, 8), (2, 4, 14, 25), (1, 2, 16, 16)])
@pytest.mark.parametrize("flip", [False, True])
def test_a_cut_is_torchvisions_resized_crop_bit_for_bit(kind, box, flip):
    image = decode(encode(PICTURE, kind))
    expected = F.resized_crop(image, *box, size=[16, 16], interpolation=F.InterpolationMode.BICUBIC, antialias=True)
    for layout in (image, image.contiguous()):
        assert torch.equal(cut(layout, box, 16, flip), F.horizontal_flip(expected) if flip else expected)


def test_multi_crop_gives_two_globals_and_the_locals_and_repeats_with_its_generator():
    config = CropsConfig(global_size=32, local_size=16, local_number=3)
    image = decode(encode(PICTURE, "PNG"))
    first = multi_crop(image, config, np.random.default_rng(3))
    again = multi_crop(image, config, np.random.default_rng(3))
    assert [crop.shape for crop in first[0]] == [(3, 32, 32)] * 2
    assert [crop.shape for crop in first[1]] == [(3, 16, 16)] * 3
    assert all(torch.equal(a, b) for a, b in zip(first[0] + first[1], again[0] + again[1], strict=True))
    assert not torch.equal(first[0][0], first[0][1])
