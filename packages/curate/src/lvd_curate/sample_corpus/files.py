"""Contents of each file of the corpus, as functions of the seed, the part and the number of the file alone."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from lvd_curate.sample_corpus.copies import encode_jpeg, encode_png, make_copy
from lvd_curate.sample_corpus.plan import PoolFile, SeedFile
from lvd_curate.sample_corpus.render import render
from lvd_curate.sample_corpus.world import SEED_CLASSES, draw_scene

# First word of each part's stream of random numbers. The order is part of what a seed means.
POOL, SEEDS, TRAIN, TEST, COPIES, PLAN = range(6)
LABELLED_QUALITY = 92  # JPEG quality of train and test; pool and seeds vary


def stream(seed: int, part: int, index: int = 0) -> np.random.Generator:
    """The random numbers of one file: independent of all others, whoever draws them and when."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(part, index)))


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """A row of train or test: encoded files and the class."""

    image: bytes  # JPEG
    label: int
    mask: bytes  # PNG, 8 bit
    depth: bytes  # PNG, 16 bit, millimetres


def labelled_images(seed: int, part: int, indices: range) -> list[LabelledImage]:
    """Rows `indices` of TRAIN or TEST."""
    return [labelled_image(seed, part, index) for index in indices]


def labelled_image(seed: int, part: int, index: int) -> LabelledImage:
    """Row `index` of TRAIN or TEST; the twelve seed classes take turns."""
    label = index % len(SEED_CLASSES)
    rendering = render(draw_scene(label, stream(seed, part, index)))
    return LabelledImage(
        image=encode_jpeg(Image.fromarray(rendering.image), LABELLED_QUALITY),
        label=label,
        mask=encode_png(Image.fromarray(rendering.mask)),
        depth=encode_png(Image.fromarray(rendering.depth)),
    )


def seed_file(seed: int, entry: SeedFile) -> bytes:
    """JPEG bytes of a seed picture."""
    return _photograph(seed, SEEDS, entry.index, entry.label)


def pool_file(seed: int, entry: PoolFile) -> bytes:
    """Contents of a pool file; a copy renders its original anew, which costs less than to wait for it."""
    if entry.kind == "original":
        return _source(seed, entry)
    assert entry.method is not None
    return make_copy(entry.method, _source(seed, entry), entry.parameters, stream(seed, COPIES, entry.index))


def _source(seed: int, entry: PoolFile) -> bytes:
    """JPEG bytes that a file is made from: a test image, another original, or a picture of its own."""
    if entry.kind == "test_copy":
        assert entry.of is not None
        return labelled_image(seed, TEST, entry.of).image
    label = 0 if entry.label is None else entry.label  # None: nothing of the picture will be seen
    return _photograph(seed, POOL, entry.index if entry.of is None else entry.of, label)


def _photograph(seed: int, part: int, index: int, label: int) -> bytes:
    """A picture as somebody would upload it: rendered, perhaps resized, saved at some quality."""
    rng = stream(seed, part, index)
    quality, scale = int(rng.integers(75, 97)), float(rng.choice((1.0, 1.0, 1.25, 1.5)))
    picture = Image.fromarray(render(draw_scene(label, rng)).image)
    if scale != 1:
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return encode_jpeg(picture, quality)
