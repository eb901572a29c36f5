"""Planted relations: from the bytes of a picture to the bytes of what somebody made of it, or broke of it."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

Parameters = Mapping[str, Any]

PAGE = "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>\n<body><h1>Not Found</h1></body></html>\n"
NOTE = "This picture was taken down at the owner's request.\n"
WORDS = ("when", "you", "finally", "see", "it", "monday", "again", "best", "day", "ever", "look", "at", "this")


def encode_jpeg(picture: Image.Image, quality: int) -> bytes:
    """JPEG bytes; 4:2:0 chroma as cameras and sites write it."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def encode_png(picture: Image.Image) -> bytes:
    """PNG bytes, lightly compressed: speed counts more than size here."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def make_copy(method: str, data: bytes, parameters: Parameters, rng: np.random.Generator) -> bytes:
    """File contents made by `method` from the JPEG bytes `data` of the picture it is a copy (or a wreck) of."""
    if method in _EDITS:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        return encode_jpeg(_EDITS[method](picture, parameters, rng), parameters["quality"])
    return _REWRITES[method](data, parameters, rng)


def _recompress(picture: Image.Image, parameters: Parameters, rng: np.random.Generator) -> Image.Image:
    return picture


def _resize(picture: Image.Image, parameters: Parameters, rng: np.random.Generator) -> Image.Image:
    size = (round(picture.width * parameters["scale"]), round(picture.height * parameters["scale"]))
    return picture.resize(size, Image.Resampling.BICUBIC)


def _crop(picture: Image.Image, parameters: Parameters, rng: np.random.Generator) -> Image.Image:
    left, top = round(picture.width * parameters["left"]), round(picture.height * parameters["top"])
    width, height = round(picture.width * parameters["keep"]), round(picture.height * parameters["keep"])
    return picture.crop((left, top, left + width, top + height))


def _flip(picture: Image.Image, parameters: Parameters, rng: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(picture)


def _colour(picture: Image.Image, parameters: Parameters, rng: np.random.Generator) -> Image.Image:
    picture = ImageEnhance.Brightness(picture).enhance(parameters["brightness"])
    picture = ImageEnhance.Contrast(picture).enhance(parameters["contrast"])
    return ImageEnhance.Color(picture).enhance(parameters["saturation"])


def _caption(picture: Image.Image, parameters: Parameters, rng: np.random.Generator) -> Image.Image:
    """A white bar with words under the picture."""
    bar = round(picture.height * parameters["height"])
    framed = ImageOps.expand(picture, (0, 0, 0, bar), fill="white")
    text = " ".join(rng.choice(WORDS, parameters["words"]))
    ImageDraw.Draw(framed).text((4, picture.height + bar / 8), text, fill="black", font_size=max(8, 0.7 * bar))
    return framed


_EDITS: dict[str, Callable[[Image.Image, Parameters, np.random.Generator], Image.Image]] = {
    "recompress": _recompress,
    "resize": _resize,
    "crop": _crop,
    "flip": _flip,
    "colour": _colour,
    "caption": _caption,
}
_REWRITES: dict[str, Callable[[bytes, Parameters, np.random.Generator], bytes]] = {
    "bytes": lambda data, parameters, rng: data,
    "truncated": lambda data, parameters, rng: data[: int(len(data) * parameters["keep"])],
    "empty": lambda data, parameters, rng: b"",
    "random": lambda data, parameters, rng: rng.bytes(parameters["bytes"]),
    "png": lambda data, parameters, rng: encode_png(Image.open(io.BytesIO(data))),
    "html": lambda data, parameters, rng: PAGE.encode(),
    "text": lambda data, parameters, rng: NOTE.encode(),
}
