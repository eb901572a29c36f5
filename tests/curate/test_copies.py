from collections.abc import Callable

import numpy as np
import polars as pl
from PIL import Image

from lvd_curate.columns import SCREENED
from lvd_curate.config import ScreenConfig
from lvd_curate.copies import CopyBars, find_copies
from lvd_curate.stages.screen import screen_file

BARS = CopyBars(hash_distance=11, hash_correlation=0.9, neighbours=4, similarity=0.6)


def table_of(*files: bytes) -> pl.DataFrame:
    return pl.DataFrame([screen_file(data, ScreenConfig()) for data in files], schema=SCREENED, orient="row")


def pairs_of(left: pl.DataFrame, right: pl.DataFrame) -> dict[tuple[int, int], float]:
    found = find_copies(left, right, BARS)
    return {(a, b): float(score) for (a, b), score in zip(found.pairs.tolist(), found.scores, strict=True)}


def test_copies_are_found_and_strangers_are_not(
    picture: Callable[..., Image.Image], jpeg: Callable[..., bytes]
) -> None:
    originals = [picture(seed, (128, 96)) for seed in range(60)]
    database = table_of(*map(jpeg, originals))
    edits: list[Callable[[Image.Image], bytes]] = [
        lambda image: jpeg(image, quality=30),
        lambda image: jpeg(image.resize((64, 48))),
        lambda image: jpeg(image.resize((192, 144))),
        lambda image: jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        lambda image: jpeg(image.convert("L")),
    ]
    for edit in edits:
        found = pairs_of(table_of(*map(edit, originals)), database)
        assert set(found) == {(n, n) for n in range(60)}
        assert min(found.values()) > 0.9


def test_equal_bytes_are_copies_even_without_structure(jpeg: Callable[..., bytes]) -> None:
    white, grey = jpeg(Image.new("RGB", (64, 64), "white")), jpeg(Image.new("RGB", (64, 64), "grey"))
    assert pairs_of(table_of(white, grey), table_of(grey)) == {(1, 0): 1.0}


def test_embeddings_add_pairs_above_the_threshold(
    picture: Callable[..., Image.Image], jpeg: Callable[..., bytes]
) -> None:
    table = table_of(*(jpeg(picture(seed)) for seed in range(3)))
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype="<f2")  # cosines 0.8, 0.6 and 0
    table = table.with_columns(embedding=pl.Series([row.tobytes() for row in vectors]))
    found = pairs_of(table, table)
    assert {pair for pair in found if pair[0] < pair[1]} >= {(0, 1)}
    assert (0, 2) not in found
    assert abs(found[0, 1] - 0.8) < 1e-3


def test_empty_tables_have_no_copies() -> None:
    nothing = pl.DataFrame(schema=SCREENED)
    assert pairs_of(nothing, nothing) == {}
