"""Decontaminate: drop every component of which any member is a copy of an excluded image (paper A.3)."""

import polars as pl

from lvd_curate.config import DecontaminateConfig, DeduplicateConfig
from lvd_curate.copy_detection.copies import Copies, CopyBars, Looks, find_copies_between
from lvd_curate.engine.artifacts import Workbench

VERSION = 3


def decontaminate(
    images: Looks,
    components: pl.DataFrame,
    references: Looks,
    copies: DeduplicateConfig,
    config: DecontaminateConfig,
    bench: Workbench,
) -> pl.DataFrame:
    """Return (id, exclude_set, reference_id, score): the closest touch, once per touched set, for every image of a
    component of which any member is a copy of a reference.

    Components are (id, component); the references' table also has `source`, the name of their set.
    """
    bars = CopyBars(copies.hash_distance, copies.hash_correlation, copies.neighbours, config.threshold)
    named = images.table.select("id").join(components.select("id", "component"), on="id", maintain_order="left")
    closest = keep_closest(list_touches(Copies.none(), named, references.table))
    for found in find_copies_between(images, references, bars, bench):
        closest = keep_closest(pl.concat([closest, list_touches(found, named, references.table)]))
    return (
        components.select("id", "component").join(closest, on="component").drop("component").sort("id", "exclude_set")
    )


def list_touches(found: Copies, images: pl.DataFrame, references: pl.DataFrame) -> pl.DataFrame:
    """Return (component, exclude_set, reference_id, score) of pairs (image, reference)."""
    return pl.DataFrame(
        {
            "component": images["component"].gather(found.pairs[:, 0]),
            "exclude_set": references["source"].gather(found.pairs[:, 1]),
            "reference_id": references["id"].gather(found.pairs[:, 1]),
            "score": pl.Series(found.scores, dtype=pl.Float32),
        }
    )


def keep_closest(touches: pl.DataFrame) -> pl.DataFrame:
    """Return the closest touch of every component and set."""
    ordered = touches.sort("component", "exclude_set", -pl.col("score"), "reference_id")
    return ordered.unique(["component", "exclude_set"], keep="first", maintain_order=True)
