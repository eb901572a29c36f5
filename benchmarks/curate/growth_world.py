"""The images and vectors of `growth_curve`: rendered once into a folder, every smaller pool a part of the larger.

Pictures are 64x64 JPEGs of about 1 kB, 5,000 to a file, by turns a tar and a Parquet file. Every twentieth image of the
pool is a copy of the one before it: one in five of these byte for byte, the others compressed anew. Seeds are 1 % and
the excluded set 0.5 % of the pool, so that what is found grows as the pool does and a slope above one is the code's.
Every tenth excluded image is a pool image, compressed anew.

Vectors (128-d) are of 500 concepts, at a cosine of about 0.25 within one; a copy is at 0.62 to 0.98 to its original.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SIDE, PART, ROW_GROUP = 64, 5000, 1000
DIM, CONCEPTS, WITHIN = 128, 500, 0.25
COPY_EVERY, EQUAL_EVERY, LEAK_EVERY = 20, 100, 10
SEEDS, EXCLUDED = 100, 200  # one of each per so many pool images
FIRST_SEED, FIRST_EXCLUDED = 10**9, 2 * 10**9  # numbers of the pictures


def make_world(folder: Path, count: int, workers: int) -> Path:
    """Make whatever is missing of a world with `count` pool images, a multiple of 10,000; return its folder."""
    world = folder / f"{count}"
    if (world / "vectors.npy").exists():
        return world
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    (world / "pool").mkdir(parents=True, exist_ok=True)
    parts = [folder / "parts" / f"part-{n:04d}{('.tar', '.parquet')[n % 2]}" for n in range(count // PART)]
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(render_part, parts))
    for part in parts:
        if not (world / "pool" / part.name).exists():
            os.link(part, world / "pool" / part.name)
    seeds = [picture(FIRST_SEED + number) for number in range(count // SEEDS)]
    leaked = {
        number: number // LEAK_EVERY * EXCLUDED * LEAK_EVERY for number in range(0, count // EXCLUDED, LEAK_EVERY)
    }
    excluded = [
        picture(leaked[number], quality=50) if number in leaked else picture(FIRST_EXCLUDED + number)
        for number in range(count // EXCLUDED)
    ]
    write_parquet(seeds, world / "seeds.parquet")
    write_parquet(excluded, world / "excluded.parquet")
    ids = np.concatenate([np.load(part.with_suffix(".npy")) for part in parts])
    write_vectors(world, ids, identify(seeds), identify(excluded), leaked)
    return world


def picture(number: int, quality: int = 85) -> bytes:
    """Render a smooth random picture, unlike that of any other number."""
    noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def pool_pictures(start: int) -> Iterator[bytes]:
    """Yield the pictures of one part, copies among them."""
    for number in range(start, start + PART):
        is_copy = (number + 1) % COPY_EVERY == 0
        compressed_anew = is_copy and (number + 1) % EQUAL_EVERY != 0
        yield picture(number - is_copy, quality=60 if compressed_anew else 85)


def render_part(file: Path) -> None:
    """Write one part of the pool and, beside it, the ids of its pictures; unless they are there."""
    if file.with_suffix(".npy").exists():
        return
    start = int(file.stem.removeprefix("part-")) * PART
    pictures = list(pool_pictures(start))
    if file.suffix == ".parquet":
        write_parquet(pictures, file)
    else:
        with tarfile.open(file, "w") as archive:
            for number, data in enumerate(pictures):
                member = tarfile.TarInfo(f"{start + number:09d}.jpg")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    np.save(file.with_suffix(".npy"), identify(pictures))


def write_parquet(pictures: list[bytes], file: Path) -> None:
    """Write pictures as the rows of a table."""
    images = pa.array([{"bytes": data, "path": f"{number}.jpg"} for number, data in enumerate(pictures)])
    pq.write_table(pa.table({"image": images}), file, row_group_size=ROW_GROUP, compression="none")


def identify(pictures: list[bytes]) -> np.ndarray:
    """Return the ids of pictures, 64 bytes each [N]."""
    return np.array([hashlib.sha256(data).hexdigest() for data in pictures], dtype="S64")


def draw_units(draw: np.random.Generator, count: int) -> np.ndarray:
    """Draw directions, float32 [count, DIM]."""
    vectors = draw.standard_normal((count, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def near(vectors: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return unit vectors at cosines of 0.62 to 0.98 to these."""
    noise = draw_units(draw, len(vectors))
    noise -= (noise * vectors).sum(axis=1, keepdims=True) * vectors
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    cosine = draw.uniform(0.62, 0.98, (len(vectors), 1)).astype(np.float32)
    return cosine * vectors + np.sqrt(1 - cosine**2) * noise


def write_vectors(
    world: Path, ids: np.ndarray, seeds: np.ndarray, excluded: np.ndarray, leaked: dict[int, int]
) -> None:
    """Write `vectors.npy`, float16 [N, DIM], and its names; an id that stands for several files has one vector."""
    draw = np.random.default_rng(2026)
    everything = np.concatenate([ids, seeds, excluded])
    centres = draw_units(draw, CONCEPTS)
    vectors = np.sqrt(1 - WITHIN) * draw_units(draw, len(everything))
    for start in range(0, len(vectors), PART):
        block = vectors[start : start + PART]
        block += np.sqrt(WITHIN) * centres[draw.integers(0, len(centres), len(block))]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    copies = np.arange(COPY_EVERY - 1, len(ids), COPY_EVERY)
    vectors[copies] = near(vectors[copies - 1], draw)
    leaks = len(ids) + len(seeds) + np.array(list(leaked))
    vectors[leaks] = near(vectors[list(leaked.values())], draw)
    _, first = np.unique(everything, return_index=True)
    rows = draw.permutation(first)  # nobody's vectors lie in the order of the listing
    pl.DataFrame({"id": everything[rows].astype(str)}).write_parquet(world / "vectors.parquet")
    np.save(world / "vectors.npy", vectors[rows].astype(np.float16))
