"""Decoding untrusted image files with Pillow: as the trainer will see them, or as the thumbnail that hashes need."""

import functools
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

COMMON = ("JPEG", "PNG", "WEBP", "GIF")
THUMBNAIL_SIDE = 32  # pixels of the grey thumbnail that screening keeps of every image: 1,024 bytes
BAND_PIXELS = 1 << 22  # converted at once: the largest image that may pass would else be held five times over
MAX_SCANS = 500  # of a JPEG, each over the whole image: a small file could keep a decoder busy for hours (usual: 10)


class UnusableImage(Exception):
    """These bytes give no usable image; the message is the reason that lineage will show."""


class Thumbnail(NamedTuple):
    """What one decode yields for screening."""

    format: str
    width: int  # as shown, after EXIF orientation
    height: int
    grey: np.ndarray  # uint8 [32, 32]


@functools.cache
def known_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that may be opened: all but those it hands to Ghostscript or the system to draw.

    Pillow tries them in this order, so the common ones, which begin with marks of their own, come first.
    """
    Image.init()
    return tuple(sorted(set(Image.OPEN) - {"EPS", "WMF"}, key=lambda name: (name not in COMMON, name)))


def known_extensions() -> frozenset[str]:
    """Lower-case file extensions (with the dot) of those formats."""
    return frozenset(ext for ext, format in Image.registered_extensions().items() if format in known_formats())


def decode_thumbnail(
    data: bytes, *, min_side: int, max_pixels: int, max_aspect: float, keep_truncated: bool = False
) -> Thumbnail:
    """Decode at the smallest size the codec offers and shrink to 32x32 grey values.

    Raises UnusableImage when the bytes are no image, damaged (ending too early counts unless `keep_truncated`), smaller
    than `min_side`, larger than `max_pixels` or more than `max_aspect` times as long as wide.
    """
    try:
        with tolerance(keep_truncated, max_pixels), open_image(data) as image:
            file_format = image.format or "unknown"
            width, height = image.size
            orientation = image.getexif().get(0x0112, 1)
            if orientation >= 5:  # 5 to 8 lie on their side
                width, height = height, width
            if min(width, height) < min_side:
                raise UnusableImage(f"too small: {width}x{height} pixels")
            if max(width, height) > max_aspect * min(width, height):  # it would swell when scaled to a model's side
                raise UnusableImage(f"too long: {width}x{height} pixels")
            image.draft("L", (2 * THUMBNAIL_SIDE, 2 * THUMBNAIL_SIDE))  # JPEG only: decode at 1/2, 1/4 or 1/8
            image.load()  # some formats know their mode only then
            upright = image if orientation == 1 else ImageOps.exif_transpose(image)
            small = to_grey(upright).resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
            return Thumbnail(file_format, width, height, np.asarray(small))
    except (UnusableImage, MemoryError):
        raise
    except Exception as error:  # hostile files make Pillow raise nearly anything
        raise UnusableImage(describe_damage(error)) from error


def decode_rgb(data: bytes) -> Image.Image:
    """Decode bytes that passed screening into an upright RGB image of full size; what a truncated file lacks is grey.

    Raises UnusableImage for the rare file whose pixels are found damaged at full size only.
    """
    try:
        try:
            return decode_upright(data, truncated=False)
        except MemoryError:
            raise
        except Exception:  # only then: being tolerant, Pillow stumbles over oddities that it otherwise skips
            return decode_upright(data, truncated=True)
    except MemoryError:  # no property of the file: the shard is tried again
        raise
    except Exception as error:
        raise UnusableImage(describe_damage(error)) from error


def decode_upright(data: bytes, *, truncated: bool) -> Image.Image:
    """Decode into an upright RGB image, tolerating truncation or not."""
    with tolerance(truncated, max_pixels=None), open_image(data) as image:
        ImageOps.exif_transpose(image, in_place=True)
        return to_rgb(image)


def encode_preview(data: bytes, side: int) -> bytes:
    """Return a small JPEG for reports, at most `side` pixels long, of an image that passed screening."""
    image = decode_rgb(data)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def open_image(data: bytes) -> Image.Image:
    """Open without decoding; refuse empty bytes and JPEGs of endlessly many scans."""
    if not data:
        raise UnusableImage("empty file")
    image = Image.open(io.BytesIO(data), formats=known_formats())
    if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_SCANS:
        raise UnusableImage(f"decompression bomb: more than {MAX_SCANS} scans")
    return image


@contextmanager
def tolerance(truncated: bool, max_pixels: int | None) -> Iterator[None]:
    """Make Pillow decode what there is of truncated files, or refuse them; for this thread's work, one at a time.

    More than `max_pixels` raise UnusableImage before any is allocated, also in images inside of others (icons).
    """
    before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES = truncated
    # Pillow refuses more than twice this many: half of an odd number, too, so that not one pixel more comes in.
    Image.MAX_IMAGE_PIXELS = None if max_pixels is None else max_pixels / 2  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about sizes and EXIF; the limit here is ours
            yield
    except Image.DecompressionBombError as error:
        pixels = int(re.sub(r"\D+(\d+).*", r"\1", str(error)))
        raise UnusableImage(f"decompression bomb: {pixels:,} pixels") from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = before


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB, the first frame of an animation, 16-bit and float greys scaled to 8 bits."""
    image.load()  # some formats know their mode only then
    if image.mode.startswith(("I", "F")):
        top = 65535.0 if image.mode.startswith("I") else max(float(np.nanmax(np.asarray(image))), 1e-9)
        return convert_bands(image, "RGB", lambda band: scale_grey(band, top).convert("RGB"))
    mode = "RGBA" if "transparency" in image.info else "RGB"
    return image.convert("RGB") if mode == "RGB" else convert_bands(image, "RGB", lambda band: band.convert(mode))


def scale_grey(image: Image.Image, top: float) -> Image.Image:
    """Scale a 16-bit or float grey image to 8 bits; `top` is white."""
    grey = np.asarray(image, dtype=np.float64)
    return Image.fromarray(np.nan_to_num(np.clip(grey / top, 0, 1) * 255).astype(np.uint8))


def convert_bands(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert an image pixel by pixel, a few rows at a time: what lies between is never as large as the image."""
    whole = Image.new(mode, image.size)
    rows = max(1, BAND_PIXELS // max(1, image.width))
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        whole.paste(convert(band).convert(mode), (0, top))
    return whole


def to_grey(image: Image.Image) -> Image.Image:
    """Convert any mode to 8-bit grey."""
    if image.mode == "L" and "transparency" not in image.info:
        return image
    if image.mode == "F":  # its white is the brightest pixel of all
        return to_rgb(image).convert("L")
    return convert_bands(image, "L", to_rgb)


def describe_damage(error: Exception) -> str:
    """Say what is wrong in words that are the same in every run (no memory addresses)."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    text = re.sub(r"<[^>]*>|0x[0-9a-f]+", "", str(error)).strip()
    return f"damaged: {text or type(error).__name__}"
