from pathlib import Path

import numpy as np
import polars as pl

from lvd_curate.config import DecontaminateConfig, DeduplicateConfig
from lvd_curate.copy_detection.copies import Looks
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.stages.decontaminate import decontaminate


def looks_of(folder: Path, ids: str, vectors: list[list[float]], *sources: str) -> Looks:
    """Images without hashes, known by their vectors alone."""
    file = folder / f"{ids}.npy"
    np.save(file, np.array(vectors, dtype="<f2").reshape(len(ids), -1))
    table = pl.DataFrame(
        {
            "id": list(ids),
            "source": list(sources) or ["p"] * len(ids),
            "local_hash": pl.Series([None] * len(ids), dtype=pl.UInt64),
            "global_hash": pl.Series([None] * len(ids), dtype=pl.UInt64),
            "row": range(len(ids)),
            "vector": range(len(ids)),
        },
        schema_overrides={"id": pl.String, "source": pl.String, "row": pl.Int64, "vector": pl.Int64},
    )
    return Looks(table, file, file)


def run(images: Looks, components: list[int], references: Looks, folder: Path) -> list[tuple[str, str, str, float]]:
    table = images.table.select("id").with_columns(component=pl.Series(components, dtype=pl.Int64))
    bench = Workbench(folder / "work", InlineExecutor(), 10**8)
    touches = decontaminate(images, table, references, DeduplicateConfig(), DecontaminateConfig(), bench)
    return [(*row[:3], round(row[3], 2)) for row in touches.rows()]


def test_the_whole_component_falls_with_any_member(tmp_path: Path) -> None:
    images = looks_of(tmp_path, "abc", [[1, 0], [0, 1], [-1, 0]])  # only b is near the reference
    touched = run(images, [7, 7, 8], looks_of(tmp_path, "r", [[0.6, 0.8]], "test"), tmp_path)
    assert touched == [("a", "test", "r", 0.8), ("b", "test", "r", 0.8)]


def test_every_set_that_is_touched_is_named_with_its_closest_image(tmp_path: Path) -> None:
    references = looks_of(tmp_path, "rst", [[1, 0], [0.8, 0.6], [0.6, 0.8]], "one", "two", "two")
    touched = run(looks_of(tmp_path, "a", [[1, 0]]), [0], references, tmp_path)
    assert touched == [("a", "one", "r", 1.0), ("a", "two", "s", 0.8)]


def test_equal_bytes_touch_and_nothing_touches_nothing(tmp_path: Path) -> None:
    images = looks_of(tmp_path, "ab", [[1, 0], [0, 1]])
    assert run(images, [0, 1], looks_of(tmp_path, "b", [[-1, 0]], "test"), tmp_path) == [("b", "test", "b", 1.0)]
    assert run(images, [0, 1], images._replace(table=images.table[:0]), tmp_path) == []
