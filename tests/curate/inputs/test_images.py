import io
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

from lvd_curate.inputs import images
from lvd_curate.inputs.images import UnusableImage, decode_rgb, decode_thumbnail, encode_preview, known_extensions

Picture = Callable[..., Image.Image]
LIMITS: dict[str, Any] = {"min_side": 32, "max_pixels": 10**6, "max_aspect": 20.0}


def save(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "YCbCr", "LA", "RGBA", "P", "1", "I;16", "I", "F"])
def test_every_mode_decodes_to_upright_rgb(picture: Picture, mode: str) -> None:
    if mode in ("I;16", "I", "F"):
        grey = np.asarray(picture(1).convert("L")).astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
        image = Image.fromarray(grey * {"I;16": 257, "I": 257, "F": 1}[mode])
    else:
        image = picture(1).convert(mode)
    squeezed = mode == "YCbCr" and int(PIL.__version__.split(".")[0]) < 13  # which reads none that is not compressed
    data = save(image, "TIFF", compression="tiff_lzw" if squeezed else None)
    assert decode_rgb(data).mode == "RGB"
    seen = decode_thumbnail(data, **LIMITS)
    assert (seen.format, seen.width, seen.height, seen.grey.shape) == ("TIFF", 96, 72, (32, 32))
    if mode in ("L", "I;16", "I"):
        plain = decode_thumbnail(save(picture(1).convert("L"), "PNG"), **LIMITS).grey
        np.testing.assert_allclose(seen.grey, plain, atol=2)


def test_exif_orientation_turns_pixels_and_sizes(picture: Picture) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = save(picture(3), "JPEG", exif=exif, quality=95)
    assert decode_rgb(data).size == (72, 96)
    seen = decode_thumbnail(data, **LIMITS)
    assert (seen.width, seen.height) == (72, 96)
    turned = decode_thumbnail(save(picture(3).rotate(-90, expand=True), "PNG"), **LIMITS).grey
    assert np.abs(seen.grey - turned.astype(float)).mean() < 4


def test_animations_give_their_first_frame(picture: Picture) -> None:
    data = save(picture(4), "GIF", save_all=True, append_images=[picture(5)])
    first = np.asarray(decode_rgb(data), dtype=float)
    assert np.abs(first - np.asarray(picture(4), dtype=float)).mean() < 12


def test_reduced_decoding_of_a_large_jpeg_sees_the_same_picture(picture: Picture) -> None:
    large = picture(6, (1000, 800))
    small = decode_thumbnail(save(large, "JPEG", quality=95), **LIMITS).grey
    exact = np.asarray(large.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float32)
    assert np.abs(small - exact).mean() < 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<html></html>", "not an image"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image"),
    ],
)
def test_garbage_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnusableImage, match=f"^{reason}$"):
        decode_thumbnail(data, **LIMITS)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_files_have_a_reason_that_is_the_same_every_time(picture: Picture, format: str) -> None:
    data = save(picture(7), format)
    reasons = set()
    for _ in range(2):
        with pytest.raises(UnusableImage) as caught:
            decode_thumbnail(data[: len(data) // 2], **LIMITS)
        reasons.add(str(caught.value))
    assert len(reasons) == 1
    assert "0x" not in reasons.pop()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "TIFF"])
def test_what_is_there_of_a_truncated_file_can_be_kept(picture: Picture, format: str) -> None:
    image = picture(7, (160, 120))
    data = save(image, format)
    kept = decode_thumbnail(data[: len(data) * 3 // 4], **LIMITS, keep_truncated=True)
    assert (kept.width, kept.height) == (160, 120)
    whole = decode_thumbnail(data, **LIMITS).grey.astype(float)
    assert np.abs(kept.grey - whole)[:12].mean() < 2
    assert np.abs(kept.grey - whole)[28:].mean() > 10
    shown = np.asarray(decode_rgb(data[: len(data) * 3 // 4]), dtype=float)  # everything downstream sees the same
    assert np.abs(shown - np.asarray(decode_rgb(data), dtype=float))[:40].mean() < 2
    with pytest.raises(UnusableImage):
        decode_thumbnail(data[: len(data) * 3 // 4], **LIMITS)


@pytest.mark.parametrize("mode", ["I;16", "F", "P"])
def test_odd_modes_are_converted_a_few_rows_at_a_time_to_the_same_pixels(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = np.random.default_rng(0).integers(0, 60_000, (50, 40)).astype(np.uint16)
    image = Image.fromarray(grid.astype(np.float32) if mode == "F" else grid)
    if mode == "P":
        image = Image.fromarray((grid >> 8).astype(np.uint8)).convert("P")
        image.info["transparency"] = bytes(range(256))
    whole = images.to_rgb(image).tobytes(), images.to_grey(image).tobytes()
    asked: list[tuple[int, ...]] = []
    crop = Image.Image.crop
    monkeypatch.setattr(Image.Image, "crop", lambda self, box: asked.append(box) or crop(self, box))
    monkeypatch.setattr(images, "BAND_PIXELS", 290)  # seven rows
    assert (images.to_rgb(image).tobytes(), images.to_grey(image).tobytes()) == whole
    assert {bottom - top for _, top, _, bottom in asked} <= {7, 1}
    assert len(asked) >= 16


def test_garbage_is_no_truncated_file() -> None:
    with pytest.raises(UnusableImage, match="not an image"):
        decode_thumbnail(b"<html></html>", **LIMITS, keep_truncated=True)


def test_small_and_huge_images_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(UnusableImage, match="too small: 40x31 pixels"):
        decode_thumbnail(save(Image.new("RGB", (40, 31)), "PNG"), **LIMITS)
    with pytest.raises(UnusableImage, match="too long: 32x641 pixels"):
        decode_thumbnail(save(Image.new("RGB", (32, 641)), "PNG"), **LIMITS)
    assert decode_thumbnail(save(Image.new("RGB", (32, 640)), "PNG"), **LIMITS).height == 640
    bomb = save(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(UnusableImage, match="decompression bomb: 400,000,000 pixels"):
        decode_thumbnail(bomb, **LIMITS)


@pytest.mark.parametrize("max_pixels", [2398, 2399, 2400, 2401])
@pytest.mark.parametrize("kind", ["PNG", "ICO"])
def test_as_many_pixels_as_are_allowed_and_not_one_more(max_pixels: int, kind: str) -> None:
    limits = LIMITS | {"max_pixels": max_pixels}
    data = save(Image.new("RGB", (60, 40)), kind, **({"sizes": [(60, 40)]} if kind == "ICO" else {}))
    if max_pixels >= 2400:
        assert decode_thumbnail(data, **limits).width == 60
    else:
        with pytest.raises(UnusableImage, match="decompression bomb: 2,400 pixels"):
            decode_thumbnail(data, **limits)


def test_previews_are_small_jpegs(picture: Picture) -> None:
    preview = Image.open(io.BytesIO(encode_preview(save(picture(8), "PNG"), 48)))
    assert (preview.format, preview.size) == ("JPEG", (48, 36))


def test_extensions_are_those_that_open() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".bmp"} <= known_extensions()
    assert ".pdf" not in known_extensions()
