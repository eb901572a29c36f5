"""Lineage: what became of every input file, and why."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from lvd_curate.columns import DROPPED, DROPS, EXCLUDE, KEPT, LINEAGE, SEEDS
from lvd_curate.config import ModerateConfig
from lvd_curate.engine.artifacts import write_whole
from lvd_curate.engine.catalogue import Catalogue

NULL = pl.lit(None)


def list_drops(
    table: pl.DataFrame, stage: str, reason: pl.Expr | str, partner: pl.Expr = NULL, score: pl.Expr = NULL
) -> pl.DataFrame:
    """Return DROPS: every id of a table leaves at this stage for this reason."""
    why = pl.lit(reason) if isinstance(reason, str) else reason
    columns = {"id": pl.col("id"), "stage": pl.lit(stage), "reason": why, "partner": partner, "score": score}
    return table.select(value.cast(DROPS[name]).alias(name) for name, value in columns.items())


def list_unembedded(images: pl.DataFrame, embedded: pl.DataFrame) -> pl.DataFrame:
    """Return the DROPS of images for which an encoder gave no finite vector."""
    return list_drops(images.join(embedded, on="id", how="anti"), "embed", "the encoder gives no finite vector")


def list_unsafe(moderated: pl.DataFrame, config: ModerateConfig) -> pl.DataFrame:
    """Return the DROPS of images that score too high, or that a model could not look at."""
    threshold = config.nsfw_threshold
    drops = [DROPS.to_frame()]
    if threshold is not None:
        unsafe = moderated.filter(pl.col("nsfw") >= threshold)
        drops.append(list_drops(unsafe, "moderate", f"nsfw score of {threshold} or more", score=pl.col("nsfw")))
    asked = [name for name, model in (("nsfw", config.nsfw), ("faces", config.faces)) if model is not None]
    unseen = moderated.filter(pl.any_horizontal(pl.col(name).is_null() for name in asked)) if asked else moderated
    drops.append(list_drops(unseen, "moderate", "no model could look at it"))
    return pl.concat(drops)


def list_duplicates(components: pl.DataFrame) -> pl.DataFrame:
    """Return the DROPS of images that another one stands for."""
    gone = components.filter(pl.col("id") != pl.col("representative"))
    return list_drops(gone, "deduplicate", "near-duplicate", pl.col("representative"), pl.col("score"))


def list_touched(touches: pl.DataFrame) -> pl.DataFrame:
    """Return the DROPS of images whose component touches an excluded set, with the closest touch."""
    closest = touches.sort("id", -pl.col("score"), "exclude_set").unique("id", keep="first", maintain_order=True)
    reason = pl.format("copy of an image of excluded set {}, or of its component", "exclude_set")
    return list_drops(closest, "decontaminate", reason, pl.col("reference_id"), pl.col("score"))


def build_lineage(
    files: pl.DataFrame, drops: Sequence[pl.DataFrame], kept: pl.Series, *, include_seeds: bool
) -> pl.DataFrame:
    """Return LINEAGE without `path`, one row per input file in listing order.

    `files` has role, source, `copy` and the columns of SCREENED; `drops` the DROPS of all stages in their order, of
    which an id's first counts; `kept` the ids in the dataset. The later of two files of equal bytes is a copy,
    whatever becomes of the first.
    """
    seed, unusable = pl.col("role") == SEEDS, pl.col("unusable")
    verdict = pl.coalesce(  # the first that holds
        when(unusable.is_not_null(), pl.lit("screen"), unusable),
        when(
            pl.col("role") == EXCLUDE,
            pl.lit("ingest"),
            pl.lit("excluded set: compared with, never part of the dataset"),
        ),
        when(pl.col("copy"), pl.lit("screen"), pl.lit("exact copy"), pl.col("id"), pl.lit(1.0)),
        when(seed & (not include_seeds), pl.lit("materialize"), pl.lit("seed: left out by materialize.include_seeds")),
        when(pl.col("id").is_in(kept.implode()), pl.lit("materialize"), NULL),
        when(pl.lit(True), pl.col("stage"), pl.col("reason"), pl.col("partner"), pl.col("score")),
    )
    first = pl.concat(drops).unique("id", keep="first", maintain_order=True)
    found = files.rename({"reason": "unusable"}).join(first, on="id", how="left", maintain_order="left")
    lineage = found.select("id", "role", "source", verdict.alias("verdict")).unnest("verdict")
    status = pl.when(pl.col("reason").is_null()).then(pl.lit(KEPT)).otherwise(pl.lit(DROPPED))
    columns = [pl.col(name).cast(kind) for name, kind in LINEAGE.items() if name != "path"]
    lineage = lineage.with_columns(status=status).select(columns)
    assert lineage["stage"].null_count() == 0, "an image left without a word"
    return lineage


def write_lineage(lineage: pl.DataFrame, catalogue: Catalogue, file: Path) -> None:
    """Write LINEAGE as one Parquet file, whole or not at all; the paths come from the catalogue, shard by shard."""
    schema = pl.DataFrame(schema=LINEAGE).to_arrow().schema
    with write_whole(file) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as out:
        for place, listed in catalogue.shards():
            rows = lineage[place].with_columns(listed["path"]).select(LINEAGE.names())
            out.write_table(rows.to_arrow().cast(schema))


def when(holds: pl.Expr, stage: pl.Expr, reason: pl.Expr, partner: pl.Expr = NULL, score: pl.Expr = NULL) -> pl.Expr:
    """Return a verdict for the rows where a condition holds, null elsewhere."""
    fields = {"stage": stage, "reason": reason, "partner_id": partner, "score": score}
    return pl.when(holds).then(pl.struct(value.cast(LINEAGE[name]).alias(name) for name, value in fields.items()))
