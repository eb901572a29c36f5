import numpy as np
import polars as pl

from lvd_curate.config import DeduplicateConfig
from lvd_curate.stages.deduplicate import deduplicate


def images_of(vectors: list[list[float]], **columns: list[object]) -> pl.DataFrame:
    """Images without hashes that only their copy-detection embedding can link; ids a, b, c, ..."""
    count = len(vectors)
    rows = np.array(vectors, dtype="<f2")
    return pl.DataFrame(
        {
            "id": [chr(97 + n) for n in range(count)],
            "is_seed": columns.get("is_seed", [False] * count),
            "width": columns.get("width", [10] * count),
            "height": [10] * count,
            "bytes": columns.get("bytes", [5] * count),
            "hash": [None] * count,
            "thumbnail": [bytes(range(256))] * count,
            "embedding": [row.tobytes() for row in rows],
        },
        schema_overrides={"hash": pl.UInt64, "width": pl.Int32, "height": pl.Int32},
    )


CHAIN = [[1.0, 0.0], [0.8, 0.6], [0.28, 0.96], [-1.0, 0.0]]  # a-b 0.8, b-c 0.8, a-c 0.28, d far from all


def result(images: pl.DataFrame, **config: float) -> dict[str, tuple[str, float]]:
    table = deduplicate(images, DeduplicateConfig(**config))  # type: ignore[arg-type]
    return {row["id"]: (row["representative"], round(row["score"], 2)) for row in table.to_dicts()}


def test_chains_are_one_component_with_its_score_to_the_representative() -> None:
    assert result(images_of(CHAIN)) == {"a": ("a", 1.0), "b": ("a", 0.8), "c": ("a", 0.28), "d": ("d", 1.0)}


def test_the_representative_has_most_pixels_then_bytes_then_the_smallest_id() -> None:
    by_pixels = images_of(CHAIN, width=[10, 10, 11, 10], bytes=[9, 9, 1, 9])
    assert {pair[0] for pair in result(by_pixels).values()} == {"c", "d"}
    by_bytes = images_of(CHAIN, bytes=[1, 9, 1, 1])
    assert {pair[0] for pair in result(by_bytes).values()} == {"b", "d"}


def test_seeds_stand_for_themselves_and_for_the_pool() -> None:
    seeds = images_of(CHAIN, is_seed=[False, True, True, False], width=[99, 10, 10, 10])
    assert {name: pair[0] for name, pair in result(seeds).items()} == {"a": "b", "b": "b", "c": "c", "d": "d"}


def test_the_threshold_is_strict_and_the_order_of_rows_is_nothing() -> None:
    assert {pair[0] for pair in result(images_of(CHAIN), threshold=0.81).values()} == {"a", "b", "c", "d"}
    assert result(images_of(CHAIN)) == result(images_of(CHAIN)[::-1])
    assert {pair[0] for pair in result(images_of(CHAIN), neighbours=1).values()} >= {"a", "d"}


def test_one_image_and_none() -> None:
    assert result(images_of(CHAIN[:1])) == {"a": ("a", 1.0)}
    assert result(images_of(CHAIN)[:0]) == {}
