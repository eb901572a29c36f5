import io

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from lvd_curate.models.blurring import FADE, GROWTH, blur_faces

FACE = {"left": 0.25, "top": 0.25, "width": 0.25, "height": 0.25, "score": 0.9}


def draw_noise(mode: str = "RGB", size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Independent pixels: whatever is blurred turns grey, whatever is not stays."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    return Image.fromarray(values.squeeze(), mode=None) if mode != "CMYK" else Image.fromarray(values, mode="CMYK")


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.int16)


def split(shape: tuple[int, ...], face: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the grown box and of all that the blur must not touch."""
    height, width = shape[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    reach = np.maximum(
        np.abs(x / width - face["left"] - face["width"] / 2) / face["width"],
        np.abs(y / height - face["top"] - face["height"] / 2) / face["height"],
    )  # in box widths or heights from the box's middle
    inner = 0.5 + GROWTH
    return reach <= inner, reach >= inner * (1 + 2 * FADE)


def test_the_grown_box_is_blurred_and_the_rest_untouched() -> None:
    noise = draw_noise()
    before, after = decode(encode(noise, "PNG")), decode(blur_faces(encode(noise, "PNG"), [FACE]))
    inside, outside = split(before.shape, FACE)
    np.testing.assert_array_equal(after[outside], before[outside])
    assert before[inside].std() > 70
    assert after[inside].std() < 15


def test_the_blur_grows_with_the_face_and_leaves_no_features() -> None:
    """Stripes of an eighth of the face vanish at every size; the image's large shapes stay."""
    for side in (16, 64, 256):
        stripes = np.zeros((2 * side, 2 * side), dtype=np.uint8)
        stripes[:, (np.arange(2 * side) // (side // 8)) % 2 == 0] = 255
        face = {"left": 0.25, "top": 0.25, "width": 0.5, "height": 0.5}
        after = decode(blur_faces(encode(Image.fromarray(stripes), "PNG"), [face]))
        inside, _ = split(after.shape, face)
        assert np.ptp(after[inside]) < 20
        assert abs(after[inside].mean() - 127.5) < 5


@pytest.mark.parametrize(
    ("mode", "format", "options"),
    [
        ("RGB", "JPEG", {"quality": 75}),
        ("L", "JPEG", {"quality": 90}),
        ("RGB", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("LA", "PNG", {}),
        ("RGB", "WEBP", {"quality": 80}),
        ("RGB", "AVIF", {"quality": 80}),
        ("RGB", "TIFF", {}),
        ("RGB", "BMP", {}),
        ("RGB", "PPM", {}),
    ],
)
def test_format_size_and_mode_stay(mode: str, format: str, options: dict[str, object]) -> None:
    data = encode(draw_noise(mode), format, **options)
    image = Image.open(io.BytesIO(blur_faces(data, [FACE])))
    assert (image.format, image.mode, image.size) == (format, mode, (160, 120))
    inside, _ = split((120, 160), FACE)
    assert decode(blur_faces(data, [FACE]))[inside].std() < decode(data)[inside].std() / 3


def test_a_jpeg_keeps_its_quality_and_the_pixels_far_from_faces(picture) -> None:
    for options in ({"quality": 60}, {"quality": 95, "subsampling": 0}):
        data = encode(picture(3, (160, 120)), "JPEG", **options)
        blurred = blur_faces(data, [FACE])
        old, new = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(blurred))
        assert new.quantization == old.quantization
        assert get_sampling(new) == get_sampling(old)
        assert len(blurred) < 1.1 * len(data)
        _, outside = split((120, 160), FACE)
        outside[16:96, 24:96] = False  # coding blocks that the blur touches
        assert np.abs(decode(blurred) - decode(data))[outside].mean() < 0.5


def test_odd_kinds_become_what_a_trainer_would_have_seen() -> None:
    cmyk = encode(draw_noise("CMYK"), "JPEG", quality=95)
    image = Image.open(io.BytesIO(blur_faces(cmyk, [FACE])))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    deep = Image.fromarray(np.linspace(0, 65535, 160 * 120).reshape(120, 160).astype(np.uint16))
    image = Image.open(io.BytesIO(blur_faces(encode(deep, "PNG"), [FACE])))
    assert (image.format, image.mode) == ("PNG", "RGB")
    assert np.ptp(np.asarray(image)) > 240
    image = Image.open(io.BytesIO(blur_faces(encode(draw_noise(), "JPEG2000"), [FACE])))
    assert (image.format, image.mode) == ("PNG", "RGB")
    animated = encode(draw_noise("L"), "GIF", save_all=True, append_images=[draw_noise("L").rotate(90)])
    image = Image.open(io.BytesIO(blur_faces(animated, [FACE])))
    assert (image.format, image.n_frames) == ("GIF", 1)


def test_orientation_is_applied_and_metadata_gone_but_for_the_colours() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a face in words"
    data = encode(draw_noise(), "JPEG", quality=95, exif=exif, icc_profile=profile, comment=b"a face in a comment")
    blurred = blur_faces(data, [FACE])
    image = Image.open(io.BytesIO(blurred))
    assert image.size == (120, 160)
    assert image.info["icc_profile"] == profile
    assert b"a face" not in blurred
    assert not image.getexif()
    upright = np.rot90(decode(data), -1)
    inside, outside = split(upright.shape, FACE)
    after = decode(blurred)
    assert np.abs(after - upright)[outside].mean() < np.abs(after - upright)[inside].mean() / 4


def test_faces_at_edges_larger_than_the_image_or_without_extent() -> None:
    data = encode(draw_noise(size=(40, 30)), "PNG")
    whole = decode(blur_faces(data, [{"left": -0.5, "top": -0.5, "width": 2.0, "height": 2.0}]))
    assert whole.std() < 20
    corner = decode(blur_faces(data, [{"left": 0.9, "top": 0.9, "width": 0.1, "height": 0.1}]))
    np.testing.assert_array_equal(corner[:20, :30], decode(data)[:20, :30])
    assert (corner[28:, 37:] != decode(data)[28:, 37:]).any()
    point = {"left": 0.5, "top": 0.5, "width": 0.0, "height": 0.0}
    np.testing.assert_array_equal(decode(blur_faces(data, [point])), decode(data))


def test_a_file_that_ends_too_early_is_blurred_as_far_as_it_goes() -> None:
    data = encode(draw_noise(), "JPEG", quality=95)
    after = decode(blur_faces(data[: len(data) * 3 // 4], [FACE]))
    inside, _ = split(after.shape, FACE)
    assert after[inside].std() < 15
