"""Bytes changed at random in images and tars: every input is in the listing once, nothing raises, nothing escapes.

`FUZZ_EXAMPLES=20000 FUZZ_RANDOM=1 pytest tests/curate/test_ingest_fuzz.py` looks longer, and elsewhere each time.
"""

import functools
import io
import os
import tarfile
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lvd_curate.config import ScreenConfig
from lvd_curate.errors import InputError
from lvd_curate.inputs.file_names import UNPRINTABLE
from lvd_curate.inputs.images import UnusableImage, decode_rgb
from lvd_curate.stages import ingest
from lvd_curate.stages.screen import screen, screen_file

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "ICO", "PPM", "TGA", "AVIF", "JPEG2000", "PCX", "SGI", "DDS")
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
BOUNDED = settings(
    max_examples=EXAMPLES,
    derandomize="FUZZ_RANDOM" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
KNOBS = ScreenConfig(max_pixels=1 << 22)  # a changed size is refused, not waited for

CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert", "repeat", "number"]),
        st.floats(0, 1),  # where
        st.binary(min_size=1, max_size=8),
        st.integers(1, 200),  # how much of it
    ),
    min_size=1,
    max_size=6,
)
Change = tuple[str, float, bytes, int]


@functools.cache
def encode(format: str, seed: int = 0) -> bytes:
    grid = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    image = Image.fromarray(grid).resize((48, 40), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"JPEG": {"exif": exif, "progressive": True}, "GIF": {"save_all": True, "append_images": [image]}}
    buffer = io.BytesIO()
    image.save(buffer, format, **options.get(format, {}))
    return buffer.getvalue()


@functools.cache
def write_tar(format: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name in ("a.jpg", "é/" + "n" * 80 + ".png", "b.json", "c.webp"):
            data = encode("PNG")
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def spoil(data: bytes, changes: list[Change]) -> bytes:
    """Apply changes, most of them near the start: headers are where a file can lie."""
    for kind, where, value, count in changes:
        place = int(len(data) * where**3)
        if kind == "set":
            data = data[:place] + value + data[place + len(value) :]
        elif kind == "cut":
            data = data[:place] + data[place + count :]
        elif kind == "insert":
            data = data[:place] + value * count + data[place:]
        elif kind == "repeat":
            data = data[: place + count] + data[place:]
        else:  # a size or an offset
            data = data[:place] + [b"\xff\xff\xff\xff", b"\0\0\0\x80", bytes(4)][count % 3] + data[place + 4 :]
    return data


@BOUNDED
@given(format=st.sampled_from(FORMATS), changes=CHANGES, truncated=st.sampled_from(["drop", "keep"]))
def test_any_bytes_are_an_image_or_have_a_reason(format: str, changes: list[Change], truncated: str) -> None:
    data = spoil(encode(format), changes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        identity, size, shown, width, height, reason, *_ = screen_file(
            data, ScreenConfig(max_pixels=1 << 22, truncated=truncated)
        )
        assert (len(str(identity)), size) == (64, len(data))
        assert (reason is None) == (shown is not None)
        if reason is not None:
            assert isinstance(reason, str)
            return
        assert width * height <= KNOBS.max_pixels
        try:
            image = decode_rgb(data)
        except UnusableImage:
            return
        assert image.mode == "RGB"
        assert image.width * image.height <= KNOBS.max_pixels


@BOUNDED
@given(format=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]), changes=CHANGES)
def test_any_tar_is_listed_once_or_refused(
    tmp_path_factory: pytest.TempPathFactory, format: int, changes: list[Change]
) -> None:
    root = tmp_path_factory.getbasetemp() / "fuzzed"
    root.mkdir(exist_ok=True)
    (root / "x.tar").write_bytes(spoil(write_tar(format), changes))
    try:
        listing = pl.concat(ingest.list_images("pool", "p", str(root / "x.tar"), root / "downloads"))
    except InputError:
        assert os.listdir(root) == ["x.tar"]
        return
    assert listing["path"].is_unique().all(), listing["path"].to_list()
    assert all(path.startswith("x.tar#") for path in listing["path"])
    assert not [path for path in listing["path"] if UNPRINTABLE.search(path)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        screened = screen(listing, KNOBS)
    assert len(screened) == len(listing)
    assert not screened.filter(pl.col("reason").is_null() & pl.col("format").is_null()).height
    assert os.listdir(root) == ["x.tar"], "nothing is unpacked"


@BOUNDED
@given(names=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5, unique=True))
def test_any_name_is_a_row_of_its_own(tmp_path_factory: pytest.TempPathFactory, names: list[bytes]) -> None:
    root = tmp_path_factory.mktemp("named", numbered=True)
    files = {name.translate(None, b"\0/") + b".jpg" for name in names} - {b".jpg"}
    for name in files:
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(name)
    seen = {name for name in files if os.path.splitext(name)[1].lower() == b".jpg"}
    if seen:
        listing = pl.concat(ingest.list_images("pool", "p", str(root), root))
        assert {os.path.basename(file) for file in listing["file"]} == seen
        assert len(listing) == len(seen)
        assert not [path for path in listing["path"] if UNPRINTABLE.search(path)]
