"""`curate audit`: which images of a benchmark have a copy in a dataset, and which copy."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from lvd_curate.columns import EXCLUDE, POOL
from lvd_curate.copy_detection.copies import CopyBars, Looks, find_copies_between
from lvd_curate.engine.artifacts import Workbench, fingerprint_rows
from lvd_curate.engine.runner import open_runner
from lvd_curate.errors import InputError
from lvd_curate.provenance import check_outside
from lvd_curate.recipes import AuditRecipe
from lvd_curate.stages import screen
from lvd_curate.steps import ImageSet, embed_images, fingerprint_encoders, look_at, screen_inputs

VERSION = 1

# One row per image of the audited sets that has a copy, with the closest one.
FOUND = pl.Schema(
    {
        "set": pl.String,
        "id": pl.String,
        "path": pl.String,
        "copy_id": pl.String,
        "copy_path": pl.String,
        "score": pl.Float32,
    }
)


class Audit(NamedTuple):
    """What an audit found."""

    found: pl.DataFrame  # FOUND
    counts: pl.DataFrame  # set, images (usable ones), found


def audit_dataset(config: AuditRecipe, work: Path) -> Audit:
    """Compare sets with a dataset; what is finished stays in `work`, so that a second audit of it is quick.

    An image counts as found when an image of the dataset has the same bytes, is a copy by hash and thumbnail, or, with
    deduplicate.encoder, lies above decontaminate.threshold.
    """
    check_outside({POOL: {"dataset": config.dataset}, EXCLUDE: config.against}, "--work", work)
    with open_runner(work, config.execution) as runner:
        sets = [ImageSet(EXCLUDE, name, place) for name, place in config.against.items()]
        everything = [ImageSet(POOL, "dataset", config.dataset), *sets]
        screened = screen_inputs(runner, everything, config.screen, seeds_first=False)
        usable = screened.files.filter(pl.col("reason").is_null())
        spec, device = config.deduplicate.encoder, config.execution.device
        copies, described = None, [screen.VERSION]
        if spec is not None:
            encoder = (spec, fingerprint_encoders(runner, [spec], device)[spec])
            copies = embed_images(runner, "embed-copies", screened, usable, encoder, config.embed, device)
            usable = usable.join(copies.table, on="id", how="semi", maintain_order="left")
            described.append(copies.fingerprint)  # type: ignore[arg-type]
        data, others = (usable.filter(pl.col("role") == role) for role in (POOL, EXCLUDE))
        data = data.unique("id", keep="first", maintain_order=True)
        stage = partial(
            find_closest, look_at(screened, others, copies), look_at(screened, data, copies), find_bars(config)
        )
        inputs = [fingerprint_rows(usable.select("row", "id", "role", "source")), *described]
        closest, _ = runner.table("audit", stage, VERSION, [config.deduplicate, config.decontaminate], inputs)
        paths = screened.catalogue.table(["path"])
        found = (
            closest.join(paths, on="row")
            .join(paths.rename({"row": "copy_row", "path": "copy_path"}), on="copy_row")
            .sort("row")
            .rename({"source": "set"})
            .select(FOUND.names())
        )
        counts = pl.DataFrame({"set": list(config.against)})
        for name, column in (("images", others["source"]), ("found", found["set"])):
            counted = column.rename("set").value_counts(name=name)
            counts = counts.join(counted, on="set", how="left", maintain_order="left")
        counts = counts.with_columns(pl.col("images", "found").fill_null(0))
        empty = counts.filter(pl.col("images") == 0)["set"].to_list()
        if empty:
            raise InputError(f"no image of {', '.join(empty)} can be compared: none is usable; nothing was found out")
        return Audit(found, counts)


def find_bars(config: AuditRecipe) -> CopyBars:
    """Return from where on two images are copies."""
    knobs = config.deduplicate
    return CopyBars(knobs.hash_distance, knobs.hash_correlation, knobs.neighbours, config.decontaminate.threshold)


def find_closest(others: Looks, data: Looks, bars: CopyBars, bench: Workbench) -> pl.DataFrame:
    """Return (row, source, id, copy_row, copy_id, score): the closest copy of each image that has any."""
    parts = []
    for copies in find_copies_between(others, data, bars, bench):
        mine, theirs = others.table[copies.pairs[:, 0]], data.table[copies.pairs[:, 1]]
        theirs = theirs.select(copy_row="row", copy_id="id", score=pl.Series(copies.scores, dtype=pl.Float32))
        parts.append(pl.concat([mine.select("row", "source", "id"), theirs], how="horizontal"))
    if not parts:
        kinds = {"row": pl.Int64, "source": pl.String, "id": pl.String}
        return pl.DataFrame(schema=kinds | {"copy_row": pl.Int64, "copy_id": pl.String, "score": pl.Float32})
    return pl.concat(parts).sort("row", -pl.col("score"), "copy_id").unique("row", keep="first", maintain_order=True)
