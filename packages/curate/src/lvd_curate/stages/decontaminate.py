"""Decontaminate: drop every component of which any member is a copy of an excluded image (paper A.3)."""

import polars as pl

from lvd_curate.config import DecontaminateConfig, DeduplicateConfig
from lvd_curate.copies import CopyBars, find_copies

VERSION = 1


def decontaminate(
    images: pl.DataFrame,
    components: pl.DataFrame,
    references: pl.DataFrame,
    copies: DeduplicateConfig,
    config: DecontaminateConfig,
) -> pl.DataFrame:
    """Return (id, exclude_set, reference_id, score): the closest touch, once per touched set, for every image of a
    component of which any member is a copy of a reference.

    Images and references carry id, hash, thumbnail and, with a copy-detection encoder, embedding; references also
    `source`, the name of their set.
    """
    bars = CopyBars(copies.hash_distance, copies.hash_correlation, copies.neighbours, config.threshold)
    found = find_copies(images, references, bars)
    touches = pl.DataFrame(
        {
            "id": images["id"].gather(found.pairs[:, 0]),
            "exclude_set": references["source"].gather(found.pairs[:, 1]),
            "reference_id": references["id"].gather(found.pairs[:, 1]),
            "score": pl.Series(found.scores, dtype=pl.Float32),
        }
    )
    closest = (
        touches.join(components.select("id", "component"), on="id")
        .sort("component", -pl.col("score"), "reference_id")
        .unique(["component", "exclude_set"], keep="first", maintain_order=True)
        .drop("id")
    )
    return (
        components.select("id", "component").join(closest, on="component").drop("component").sort("id", "exclude_set")
    )
