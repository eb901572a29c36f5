"""report.html: a dataset for people's eyes, in one file that needs nothing else.

It is made from the dataset's own folder alone, so it can be made again anywhere, long after the inputs are gone.
Nothing in it depends on the clock or the machine's name: the same dataset gives the same bytes.
"""

import base64
from pathlib import Path
from typing import Any

import polars as pl

from lvd_curate.columns import DROPPED, EXCLUDE, KEPT, POOL, SEEDS
from lvd_curate.reporting.card import describe
from lvd_curate.reporting.charts import draw_balance, draw_curves, draw_scores, draw_sizes
from lvd_curate.reporting.counts import count_sizes
from lvd_curate.reporting.galleries import gather_pictures, list_shown
from lvd_curate.reporting.pages import write_page
from lvd_curate.reporting.story import Story, name_damage, name_images, open_lineage, open_story

LISTED = 2000  # rows of the lineage that can be searched in the page
ID_DIGITS = 16  # of an id that the page shows; `curate explain` takes it
DUPLICATE = pl.col("id") != pl.col("representative")


def write_report(folder: Path) -> None:
    """Write report.html into a dataset's folder; InputError when it is none."""
    with name_damage(folder):
        write_page("report.html.j2", gather_view(folder), folder / "report.html")


def gather_view(folder: Path) -> dict[str, Any]:
    """Return all that the page shows."""
    view, story, lineage = describe(folder), open_story(folder), open_lineage(folder)
    pictures = gather_pictures(story)
    shown = list_shown(pictures)
    view |= {"pictures": pictures, "previews": load_previews(story, shown), "names": load_names(lineage, shown)}
    view |= {"charts": draw_charts(story, lineage)}
    return view | {"failed": list_failed(lineage), "listed": list_lineage(lineage)}


def draw_charts(story: Story, lineage: pl.LazyFrame) -> dict[str, Any]:
    """Return the shapes of all charts by name."""
    kept = lineage.filter(pl.col("status") == KEPT).select("id")
    return {
        "curves": draw_curves(story.curves),
        "copies": draw_scores(story.components.filter(DUPLICATE), "score"),
        "sizes": draw_sizes(count_sizes(story.components, "component")),
        "similarities": draw_scores(story.picks, "similarity"),
        "balance": draw_balance(story.clusters, kept),
        "nsfw": draw_scores(story.moderation, "nsfw"),
    }


def load_previews(story: Story, ids: list[str]) -> dict[str, str]:
    """Return the previews that there are, as data URIs by id."""
    found = story.previews.filter(pl.col("id").is_in(ids)).collect()
    return {identity: "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() for identity, jpeg in found.rows()}


def load_names(lineage: pl.LazyFrame, ids: list[str]) -> dict[str, str]:
    """Return set and path of each image's first file by id."""
    return {identity: f"{source}: {path}" for identity, _, source, path in name_images(lineage, ids).rows()}


def list_failed(lineage: pl.LazyFrame) -> list[dict[str, Any]]:
    """Return why files were no usable images, how many of each set, and the first of them by name."""
    failed = lineage.filter((pl.col("stage") == "screen") & pl.col("reason").is_not_null())
    failed = failed.filter(pl.col("reason") != "exact copy")
    plain = failed.with_columns(pl.col("reason").str.split(":").list.first())
    groups = plain.group_by("role", "source", "reason").agg(files=pl.len(), example=pl.col("path").min())
    order = ["files", "role", "source", "reason"]
    return groups.collect(engine="streaming").sort(order, descending=[True, False, False, False]).to_dicts()


def list_lineage(lineage: pl.LazyFrame) -> dict[str, Any]:
    """Return the first rows of every role and status, LISTED in all at most, and how many rows there are."""
    total = lineage.select(pl.len()).collect().item()
    ends = [(POOL, KEPT), (POOL, DROPPED), (SEEDS, KEPT), (SEEDS, DROPPED), (EXCLUDE, DROPPED)]
    numbered = lineage.with_row_index("row")
    wanted = [(pl.col("role") == role) & (pl.col("status") == status) for role, status in ends]
    most = LISTED if total <= LISTED else LISTED // len(ends)
    rows = pl.concat([numbered.filter(which).head(most).collect() for which in wanted]).sort("row")
    short = (pl.col(name).str.head(ID_DIGITS).alias(name) for name in ("id", "partner_id"))
    table = rows.with_columns(*short, pl.col("score").cast(pl.Float64).round(3))
    columns = ["source", "path", "status", "stage", "reason", "score", "partner_id", "id"]
    return {"total": total, "count": len(table), "columns": columns, "rows": table.select(columns).rows()}
