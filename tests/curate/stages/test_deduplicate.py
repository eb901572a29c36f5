import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lvd_curate.config import DeduplicateConfig
from lvd_curate.copy_detection.copies import Looks
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.stages.deduplicate import deduplicate

CHAIN = [[1.0, 0.0], [0.8, 0.6], [0.28, 0.96], [-1.0, 0.0]]  # a-b 0.8, b-c 0.8, a-c 0.28, d far from all

Run = Callable[..., dict[str, tuple[str, float]]]


def images_of(vectors: list[list[float]], folder: Path, **columns: list[object]) -> Looks:
    """Images without hashes that only their copy-detection embedding can link; ids a, b, c, ..."""
    count = len(vectors)
    np.save(folder / "vectors.npy", np.array(vectors, dtype="<f2").reshape(count, -1))
    np.save(folder / "thumbnails.npy", np.zeros((count, 1024), dtype="u1"))
    table = pl.DataFrame(
        {
            "id": [chr(97 + n) for n in range(count)],
            "is_seed": columns.get("is_seed", [False] * count),
            "width": columns.get("width", [10] * count),
            "height": [10] * count,
            "bytes": columns.get("bytes", [5] * count),
            "local_hash": [None] * count,
            "global_hash": [None] * count,
            "row": range(count),
            "vector": range(count),
        },
        schema_overrides={
            **dict.fromkeys(("local_hash", "global_hash"), pl.UInt64),
            **dict.fromkeys(("width", "height"), pl.Int32),
            **dict.fromkeys(("row", "vector"), pl.Int64),
        },
    )
    return Looks(table, folder / "thumbnails.npy", folder / "vectors.npy")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def result(images: Looks, **config: float) -> dict[str, tuple[str, float]]:
        bench = Workbench(tmp_path / "work", InlineExecutor(), 10**8)
        table = deduplicate(images, DeduplicateConfig(**config), bench)  # type: ignore[arg-type]
        return {row["id"]: (row["representative"], round(row["score"], 2)) for row in table.to_dicts()}

    return result


def test_chains_are_one_component_with_its_score_to_the_representative(run: Run, tmp_path: Path) -> None:
    expected = {"a": ("a", 1.0), "b": ("a", 0.8), "c": ("a", 0.28), "d": ("d", 1.0)}
    assert run(images_of(CHAIN, tmp_path)) == expected


def test_the_representative_has_most_pixels_then_bytes_then_the_smallest_id(run: Run, tmp_path: Path) -> None:
    by_pixels = run(images_of(CHAIN, tmp_path, width=[10, 10, 11, 10], bytes=[9, 9, 1, 9]))
    assert {pair[0] for pair in by_pixels.values()} == {"c", "d"}
    by_bytes = run(images_of(CHAIN, tmp_path, bytes=[1, 9, 1, 1]))
    assert {pair[0] for pair in by_bytes.values()} == {"b", "d"}


def test_seeds_stand_for_themselves_and_for_the_pool(run: Run, tmp_path: Path) -> None:
    seeds = images_of(CHAIN, tmp_path, is_seed=[False, True, True, False], width=[99, 10, 10, 10])
    assert {name: pair[0] for name, pair in run(seeds).items()} == {"a": "b", "b": "b", "c": "c", "d": "d"}


def test_the_threshold_is_strict_and_the_order_of_rows_is_nothing(run: Run, tmp_path: Path) -> None:
    images = images_of(CHAIN, tmp_path)
    assert {pair[0] for pair in run(images, threshold=0.81).values()} == {"a", "b", "c", "d"}
    assert run(images) == run(images._replace(table=images.table[::-1]))
    assert {pair[0] for pair in run(images, neighbours=1).values()} >= {"a", "d"}


def test_one_image_and_none(run: Run, tmp_path: Path) -> None:
    images = images_of(CHAIN, tmp_path)
    assert run(images._replace(table=images.table[:1])) == {"a": ("a", 1.0)}
    assert run(images._replace(table=images.table[:0])) == {}


def test_a_giant_component_is_cut_at_its_weakest_links_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    angles = np.radians([0, 10, 20, 60, 70, 80, 170])  # three close, three close, 40 degrees (0.77) between, one far
    images = images_of([[float(np.cos(a)), float(np.sin(a))] for a in angles], tmp_path)
    bench = Workbench(tmp_path / "work", InlineExecutor(), 10**8)
    whole = deduplicate(images, DeduplicateConfig(), bench).sort("id")
    assert whole["component"].to_list() == [0, 0, 0, 0, 0, 0, 6]
    assert whole["cut"].null_count() == 7
    with caplog.at_level(logging.WARNING):
        parts = deduplicate(images, DeduplicateConfig(max_component=3), bench).sort("id")
    assert parts["component"].to_list() == [0, 0, 0, 3, 3, 3, 6]
    assert parts["cut"].to_list() == pytest.approx([0.77] * 6 + [None])
    assert "6 images around a are one component; cut at up to 0.77 into 2 of at most 3" in caplog.text


def test_equal_pictures_cannot_be_cut_apart(tmp_path: Path) -> None:
    images = images_of([[1.0, 0.0]] * 5, tmp_path)
    bench = Workbench(tmp_path / "work", InlineExecutor(), 10**8)
    table = deduplicate(images, DeduplicateConfig(max_component=2), bench)
    assert table["component"].to_list() == [0] * 5
    assert table["cut"].to_list() == pytest.approx([0.99] * 5)
