"""Making faces unrecognisable in an image file, and leaving the rest of it as it is."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from lvd_curate.inputs.images import open_image, to_rgb, tolerance

GROWTH = 0.15  # of a box's width and height, added on every side: detectors draw them tight
FADE = 0.10  # of the grown box, on every side: the blur goes over into the image, no edge to learn from
STRENGTH = 0.10  # standard deviation of the Gaussian / diagonal of the grown box, as in ImageNet-blurred
MODES = ("L", "LA", "RGB", "RGBA")  # Pillow's; others become RGB
QUALITY: dict[str, dict[str, Any]] = {  # formats that are written as they came; others become PNG
    "AVIF": {"quality": 95},
    "BMP": {},
    "GIF": {},
    "JPEG": {"quality": 95},  # where its own tables do not fit: CMYK becomes RGB
    "PNG": {},
    "PPM": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"quality": 95},
}


def blur_faces(data: bytes, faces: Sequence[Mapping[str, float]]) -> bytes:
    """Return an image file with blurred faces (left, top, width, height: fractions of the upright image).

    The format stays where Pillow writes it; a JPEG keeps its quantisation tables and thereby its quality and size. The
    image is stored upright and alone: further frames and all metadata but the colour profile go, since either may show
    the same face (cameras store a preview).
    """
    try:
        return blur_decoded(data, faces, truncated=False)
    except Exception:  # in the order of `decode_rgb`, from whose pixels the faces are
        return blur_decoded(data, faces, truncated=True)


def blur_decoded(data: bytes, faces: Sequence[Mapping[str, float]], *, truncated: bool) -> bytes:
    """Blur faces, tolerating a file that ends too early or not."""
    with tolerance(truncated, max_pixels=None), open_image(data) as source:
        upright = ImageOps.exif_transpose(source)
        image = upright if upright.mode in MODES else to_rgb(upright)
        blurred = Image.fromarray(np.asarray(image))  # a copy of the pixels alone
        for face in faces:
            blur_box(blurred, face)
        return encode_like(source, blurred)


def blur_box(image: Image.Image, face: Mapping[str, float]) -> None:
    """Blur one face in place: wholly in the grown box, fading out around it."""
    width, height = face["width"] * image.width, face["height"] * image.height
    centre = ((face["left"] + face["width"] / 2) * image.width, (face["top"] + face["height"] / 2) * image.height)
    sides = (width * (1 + 2 * GROWTH), height * (1 + 2 * GROWTH))
    sigma = STRENGTH * float(np.hypot(*sides))
    ramps = [fade_out(length, c, side) for length, c, side in zip(image.size, centre, sides, strict=True)]
    spans = [np.flatnonzero(ramp) for ramp in ramps]
    if not all(map(len, spans)):
        return
    (left, right), (top, bottom) = ((int(span[0]), int(span[-1]) + 1) for span in spans)
    reach = int(np.ceil(3 * sigma))
    x, y = max(0, left - reach), max(0, top - reach)
    around = image.crop((x, y, min(image.width, right + reach), min(image.height, bottom + reach)))
    soft = around.filter(ImageFilter.GaussianBlur(sigma)).crop((left - x, top - y, right - x, bottom - y))
    weight = np.outer(ramps[1][top:bottom], ramps[0][left:right])
    image.paste(soft, (left, top), Image.fromarray(np.rint(255 * weight).astype(np.uint8)))


def fade_out(length: int, centre: float, side: float) -> np.ndarray:
    """Return the weight of the blur along one axis, float64 [length]: 1 in the box, falling to 0 beside it."""
    outside = np.abs(np.arange(length) + 0.5 - centre) - side / 2
    return np.clip(1 - outside / max(FADE * side, 1e-6), 0, 1)


def encode_like(source: Image.Image, image: Image.Image) -> bytes:
    """Encode an image in the format and quality of the file it was made from."""
    format = "JPEG" if isinstance(source, JpegImageFile) else source.format  # a JPEG of several frames says MPO
    if format not in QUALITY:
        format = "PNG"
    options = dict(QUALITY[format])
    if image.mode == source.mode:
        options["icc_profile"] = source.info.get("icc_profile")
        if isinstance(source, JpegImageFile) and 0 in source.quantization:
            options |= {"quality": -1, "qtables": source.quantization, "subsampling": get_sampling(source)}
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()
