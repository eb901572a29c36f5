"""How many edited copies, and how many strangers, the hashes of `curate build-lvd` take for copies.

    python benchmarks/curate/planted_copies.py PHOTOGRAPHS.parquet [STEP]

Edits every STEP-th photograph (default 4) in each way, compares it with its original, and then all photographs with
one another. Prints the share of copies found and the pairs of strangers with their correlation.
"""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from lvd_curate.columns import SCREENED
from lvd_curate.config import DeduplicateConfig, ScreenConfig
from lvd_curate.copies import CopyBars, find_copies
from lvd_curate.locations import read_bytes
from lvd_curate.stages.ingest import list_images
from lvd_curate.stages.screen import screen_file


def save(image: Image.Image, quality: int = 90, format: str = "JPEG") -> bytes:
    """Encode a picture."""
    buffer = io.BytesIO()
    image.save(buffer, format, quality=quality)
    return buffer.getvalue()


def crop(image: Image.Image, percent: int) -> Image.Image:
    """Cut so many percent off the width and the height."""
    left, top = image.width * percent // 200, image.height * percent // 200
    return image.crop((left, top, image.width - left, image.height - top))


def caption(image: Image.Image) -> Image.Image:
    """Cover the lowest 12 % with a black bar."""
    image = image.copy()
    ImageDraw.Draw(image).rectangle((0, int(image.height * 0.88), image.width, image.height), fill=(0, 0, 0))
    return image


def edit(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of every edited copy."""
    width, height = image.size
    yield "jpeg 30", save(image, 30)
    yield "jpeg 15", save(image, 15)
    yield "half size", save(image.resize((width // 2, height // 2), Image.Resampling.LANCZOS))
    yield "quarter size, nearest", save(image.resize((width // 4, height // 4), Image.Resampling.NEAREST))
    yield "1.5 times", save(image.resize((width * 3 // 2, height * 3 // 2)))
    yield "half width", save(image.resize((width // 2, height)))
    yield "mirrored", save(ImageOps.mirror(image))
    for percent in (3, 5, 10):
        yield f"crop {percent} %", save(crop(image, percent))
    yield "grey", save(image.convert("L"))
    yield "brightness x1.4", save(ImageEnhance.Brightness(image).enhance(1.4))
    yield "contrast x0.6", save(ImageEnhance.Contrast(image).enhance(0.6))
    yield "caption bar", save(caption(image))
    yield "rotated 3 degrees", save(image.rotate(3))
    yield "border 5 %", save(ImageOps.expand(image, width // 20, 0))
    yield "webp 50", save(image, 50, "WEBP")


def main() -> None:
    """Measure and print."""
    listing = list_images("pool", "photographs", sys.argv[1], Path())
    files = [data for data in read_bytes(listing) if isinstance(data, bytes)]
    config = DeduplicateConfig()
    bars = CopyBars(config.hash_distance, config.hash_correlation, config.neighbours, config.threshold)
    rows = [screen_file(data, ScreenConfig(min_side=1)) for data in files]
    photographs = pl.DataFrame(rows, schema=SCREENED, orient="row")
    edited: dict[str, list[tuple[int, bytes]]] = {}
    for number in range(0, len(files), int(sys.argv[2]) if len(sys.argv) > 2 else 4):
        for name, data in edit(Image.open(io.BytesIO(files[number])).convert("RGB")):
            edited.setdefault(name, []).append((number, data))
    for name, copies in edited.items():
        rows = [screen_file(data, ScreenConfig(min_side=1)) for _, data in copies]
        found = find_copies(pl.DataFrame(rows, schema=SCREENED, orient="row"), photographs, bars).pairs.tolist()
        hits = sum([place, number] in found for place, (number, _) in enumerate(copies))
        sys.stdout.write(f"{name:24}{hits / len(copies):.3f}\n")
    pairs, scores = find_copies(photographs, photographs, bars)
    strangers = [
        (left, right, float(score)) for (left, right), score in zip(pairs, scores, strict=True) if left < right
    ]
    sys.stdout.write(f"pairs among {len(files)} photographs: {len(strangers)}\n")
    for left, right, score in strangers:
        sys.stdout.write(f"  rows {left} and {right}, correlation {score:.3f}\n")


main()
