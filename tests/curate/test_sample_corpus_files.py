import io
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError
from scipy.fft import dctn

from lvd_curate.sample_corpus.files import PLAN, TEST, TRAIN, labelled_image, pool_file, seed_file, stream
from lvd_curate.sample_corpus.plan import plan_pool, plan_seeds


@pytest.fixture(scope="module")
def pool():
    return plan_pool(200, 24, stream(7, PLAN))


def dct_hash(data):
    """64 bits: signs of the lowest 8 x 8 cosine coefficients against their median."""
    grey = Image.open(io.BytesIO(data)).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(grey, float), norm="ortho")[:8, :8].ravel()
    return low > np.median(low[1:])


def test_a_file_follows_from_seed_and_number_alone(pool):
    for file in (*pool[:2], *pool[-4:]):
        assert pool_file(7, file) == pool_file(7, file)
    assert pool_file(7, pool[0]) != pool_file(8, pool[0])
    assert labelled_image(7, TRAIN, 0).image != labelled_image(7, TEST, 0).image


def test_copies_are_near_their_source_and_originals_are_not_near_each_other(pool):
    originals = {file.index: dct_hash(pool_file(7, file)) for file in pool if file.kind == "original"}
    hashes = np.array(list(originals.values()), float)
    distance = (hashes[:, None] != hashes[None]).sum(axis=-1) + 64 * np.eye(len(hashes))
    assert distance.min() > 6
    found = defaultdict(list)
    for file in pool:
        if file.kind in ("exact_copy", "jpeg", "resize", "test_copy"):
            source = (
                dct_hash(labelled_image(7, TEST, file.of).image) if file.kind == "test_copy" else originals[file.of]
            )
            found[file.kind].append((dct_hash(pool_file(7, file)) != source).sum())
    assert set(found) == {"exact_copy", "jpeg", "resize", "test_copy"}
    assert max(max(distances) for distances in found.values()) <= 6


def test_pictures_vary_in_size_and_quality(pool):
    pictures = [Image.open(io.BytesIO(pool_file(7, file))) for file in pool[:40]]
    assert len({picture.size for picture in pictures}) > 20
    assert len({tuple(picture.quantization[0]) for picture in pictures}) > 5
    assert all(picture.format == "JPEG" for picture in pictures)


def test_only_broken_files_and_pages_cannot_be_opened(pool):
    for file in pool[-24:]:
        try:
            Image.open(io.BytesIO(pool_file(7, file))).load()
            readable = True
        except (UnidentifiedImageError, OSError):
            readable = False
        assert readable == (file.kind != "broken" and file.method not in ("html", "text")), file


def test_seeds_are_pictures_of_their_own(pool):
    seeds = plan_seeds(24, stream(7, PLAN, 1))
    contents = {seed_file(7, file) for file in seeds} | {pool_file(7, file) for file in pool[:24]}
    assert len(contents) == 48


def test_labelled_rows_fit_together():
    for index in range(12):
        row = labelled_image(3, TEST, index)
        image, mask, depth = (Image.open(io.BytesIO(data)) for data in (row.image, row.mask, row.depth))
        assert image.size == mask.size == depth.size
        assert (image.format, mask.mode, depth.mode) == ("JPEG", "L", "I;16")
        values, counts = np.unique(np.asarray(mask), return_counts=True)
        objects = {int(v): int(c) for v, c in zip(values, counts, strict=True) if 0 < v < 255}
        assert row.label == index
        assert max(objects, key=objects.__getitem__) == 1 + row.label
        assert set(objects) <= set(range(1, 13))
