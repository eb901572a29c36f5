"""Planted copies: what people do to a picture before they post it again, so that finding it can be measured.

Eleven edits of which the truth is known, after the tests of DataComp (arXiv 2304.14108, appendix on deduplication) and
of SSCD (arXiv 2202.10261). Every draw comes from the generator that is given: the same seed plants the same bytes.
"""

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]
QUALITY = 90  # of the JPEG that every edit but the strong recompression is saved as
WORDS = "nobody told me that this would be the best part of the whole trip"


def plant_copy(image: Image.Image, edit: str, rng: np.random.Generator) -> bytes:
    """Return the JPEG bytes of an RGB image edited in the way that EDITS names."""
    buffer = io.BytesIO()
    EDITS[edit](image, rng).save(buffer, "JPEG", quality=15 if edit == "jpeg 15" else QUALITY)
    return buffer.getvalue()


def resize(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Shrink to 40 % of the width and height."""
    return image.resize((max(1, image.width * 2 // 5), max(1, image.height * 2 // 5)), Image.Resampling.LANCZOS)


def crop(percent: int) -> Edit:
    """Cut so many percent off the width and off the height, anywhere."""

    def cut(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        width, height = (max(1, round(side * (100 - percent) / 100)) for side in image.size)
        left, top = (int(rng.integers(0, slack + 1)) for slack in (image.width - width, image.height - height))
        return image.crop((left, top, left + width, top + height))

    return cut


def rotate(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turn by 5 degrees one way or the other; the corners become black."""
    return image.rotate(float(rng.choice((-5, 5))), Image.Resampling.BICUBIC)


def caption(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Cover the lowest 12 % with a black bar and white words."""
    image, top = image.copy(), int(image.height * 0.88)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, top, image.width, image.height), fill="black")
    draw.text((4, top), WORDS, fill="white", font_size=max(6, int(image.height * 0.08)))
    return image


def border(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Put a white or black frame of 5 % of the width around it."""
    return ImageOps.expand(image, max(1, image.width // 20), fill=str(rng.choice(("white", "black"))))


EDITS: Mapping[str, Edit] = {
    "jpeg 15": lambda image, rng: image,
    "resize 0.4": resize,
    "crop 5 %": crop(5),
    "crop 10 %": crop(10),
    "crop 25 %": crop(25),
    "flip": lambda image, rng: ImageOps.mirror(image),
    "rotate 5": rotate,
    "grey": lambda image, rng: image.convert("L"),
    "brightness 1.4": lambda image, rng: ImageEnhance.Brightness(image).enhance(1.4),
    "caption": caption,
    "border": border,
}
