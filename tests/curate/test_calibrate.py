from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from lvd_curate.calibrate import calibrate, measure, recommend
from lvd_curate.config import DeduplicateConfig
from lvd_curate.copy_detection.planted import EDITS
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.errors import InputError


def fine_picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((160, 120), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("semantic", [False, True])
def test_recall_falls_with_the_threshold_and_a_copy_in_the_pool_is_a_suspect(
    semantic: bool, tmp_path: Path, jpeg: Callable[..., bytes], encoder: Path
) -> None:
    sample = [jpeg(fine_picture(seed)) for seed in range(18)] + [jpeg(fine_picture(3), quality=60)]
    bench = Workbench(tmp_path / "work", InlineExecutor(), 10**9)
    found = calibrate(sample, str(encoder) if semantic else None, DeduplicateConfig(), bench)
    again = calibrate(sample, str(encoder) if semantic else None, DeduplicateConfig(), bench)
    assert found.table.equals(again.table)
    assert set(found.table["edit"]) == {*EDITS, "all"}
    for edit in ("all", "jpeg 15", "crop 25 %"):
        recalls = found.table.filter(pl.col("edit") == edit).sort("threshold")["recall"].to_list()
        assert recalls == sorted(recalls, reverse=True)
    best = found.table.filter(pl.col("edit") == "resize 0.4").sort("threshold")["recall"][0]
    assert best == 1
    assert found.suspects.row(0)[:2] == (3, 18)
    assert found.suspects["score"][0] > 0.95


def test_precision_counts_strangers() -> None:
    edits = list(EDITS)
    pairs = pl.DataFrame(
        {
            "edit": [edits[0], edits[0], edits[1], edits[0]],
            "score": pl.Series([0.9, 0.6, 0.8, 0.7], dtype=pl.Float32),
            "right": [True, True, True, False],
        }
    )
    rows = list(measure(pairs, np.array([0.5, 0.75, 0.85, 0.95]), 2))
    table = pl.DataFrame(rows, schema=["threshold", "edit", "recall", "precision", "wrong_per_million"], orient="row")
    first = table.filter(pl.col("edit") == edits[0]).rows()
    assert first[0] == (0.5, edits[0], 1.0, pytest.approx(2 / 3), 5e5)
    assert first[1] == (0.75, edits[0], 0.5, 1.0, 0.0)
    assert first[3] == (0.95, edits[0], 0.0, None, 0.0)
    assert table.filter(pl.col("edit") == "all")["recall"].to_list() == pytest.approx([3 / 22, 2 / 22, 1 / 22, 0])
    assert recommend(table) == 0.75
    assert recommend(table.filter(pl.col("threshold") > 0.9)) is None


def test_recall_that_costs_nothing_buys_distance_to_strangers() -> None:
    table = pl.DataFrame(
        {
            "threshold": [0.5, 0.6, 0.7, 0.8, 0.9, 0.95],
            "edit": ["all"] * 6,
            "recall": [0.99, 0.95, 0.949, 0.941, 0.9, 0.0],
            "precision": [0.9, 0.995, 1.0, 1.0, 1.0, None],
        }
    )
    assert recommend(table) == 0.8


def test_one_image_is_too_few(tmp_path: Path, jpeg: Callable[..., bytes]) -> None:
    with pytest.raises(InputError, match="at least 2 usable images, and the sample has 1"):
        calibrate([jpeg(fine_picture(0))], None, DeduplicateConfig(), Workbench(tmp_path, InlineExecutor(), 10**9))


def test_ready_made_vectors_say_nothing_of_copies_planted_now(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, InlineExecutor(), 10**9)
    with pytest.raises(InputError, match="give a model"):
        calibrate([b"1", b"2"], "embeddings:x.npy", DeduplicateConfig(), bench)
