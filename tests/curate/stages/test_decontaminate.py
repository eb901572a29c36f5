import numpy as np
import polars as pl

from lvd_curate.config import DecontaminateConfig, DeduplicateConfig
from lvd_curate.stages.decontaminate import decontaminate


def table_of(ids: str, vectors: list[list[float]], source: str = "p") -> pl.DataFrame:
    rows = np.array(vectors, dtype="<f2").reshape(len(ids), -1)
    return pl.DataFrame(
        {
            "id": list(ids),
            "source": [source] * len(ids),
            "hash": [None] * len(ids),
            "thumbnail": [bytes(range(256))] * len(ids),
            "embedding": [row.tobytes() for row in rows],
        },
        schema_overrides={
            "id": pl.String,
            "source": pl.String,
            "hash": pl.UInt64,
            "thumbnail": pl.Binary,
            "embedding": pl.Binary,
        },
    )


def run(images: pl.DataFrame, components: list[int], references: pl.DataFrame) -> list[tuple[str, str, str, float]]:
    table = images.select("id").with_columns(component=pl.Series(components, dtype=pl.Int64))
    touches = decontaminate(images, table, references, DeduplicateConfig(), DecontaminateConfig())
    return [(*row[:3], round(row[3], 2)) for row in touches.rows()]


def test_the_whole_component_falls_with_any_member() -> None:
    images = table_of("abc", [[1, 0], [0, 1], [-1, 0]])  # only b is near the reference
    touched = run(images, [7, 7, 8], table_of("r", [[0.6, 0.8]], "test"))
    assert touched == [("a", "test", "r", 0.8), ("b", "test", "r", 0.8)]


def test_every_set_that_is_touched_is_named() -> None:
    references = pl.concat([table_of("r", [[1, 0]], "one"), table_of("s", [[0.8, 0.6]], "two")])
    assert run(table_of("a", [[1, 0]]), [0], references) == [("a", "one", "r", 1.0), ("a", "two", "s", 0.8)]


def test_equal_bytes_touch_and_nothing_touches_nothing() -> None:
    images = table_of("ab", [[1, 0], [0, 1]])
    assert run(images, [0, 1], table_of("b", [[-1, 0]], "test")) == [("b", "test", "b", 1.0)]
    assert run(images, [0, 1], images[:0]) == []
