"""Looking one image up in everything that a dataset's folder knows, by scanning: only the answer is held."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import polars as pl

from lvd_curate.errors import InputError
from lvd_curate.reporting.story import Story

ID = re.compile("[0-9a-f]{6,64}")
LISTED = 20  # members, picks or files, of whatever there are more
COMPARED = 20_000  # paths among which the nearest to an unknown one are looked for


@dataclass(frozen=True)
class Facts:
    """What the story's tables say of one image; tables are cut where the answer ends."""

    group: pl.DataFrame  # its component: itself first, then by likeness
    group_size: int
    touches: pl.DataFrame  # of it
    touched: pl.DataFrame  # by it, when it is an excluded image
    touched_count: int
    brought_by: pl.DataFrame  # picks of it
    picks: int
    brought: pl.DataFrame  # picks that it made, when it is a seed
    brought_count: int
    cluster: int | None
    levels: list[int] | None  # of the rebalancing hierarchy, finest first
    moderated: pl.DataFrame
    row: pl.DataFrame  # file and clusters, when the dataset holds it

    def ids(self, files: pl.DataFrame) -> list[str]:
        """Return the images that the story names."""
        tables = [
            (self.group, "id"),
            (self.group, "representative"),
            (self.touches, "reference_id"),
            (self.touched, "id"),
            (self.brought_by, "seed_id"),
            (self.brought, "id"),
            (files, "partner_id"),
        ]
        return sorted({identity for table, column in tables for identity in table[column].drop_nulls()})


def find_files(lineage: pl.LazyFrame, name: str) -> pl.DataFrame:
    """Return the rows of LINEAGE that a name fits best: an id before an exact path, that before the end of one.

    Raises InputError for a name that would fit nearly everything.
    """
    if len(name) < 3 or name in (".jpg", ".png", ".jpeg"):
        raise InputError(f"{name!r} names no image; give an id (6 digits are enough), a path or the end of one")
    if ID.fullmatch(name):
        found = lineage.filter(pl.col("id").str.starts_with(name)).collect()
        if len(found):
            return found
    path = pl.col("path")
    tail = path.str.ends_with(name)
    longer = pl.lit(name).str.ends_with(pl.concat_str(pl.lit("/"), path))
    found = lineage.filter(tail | longer).collect()
    whole = path.str.ends_with("/" + name) | path.str.ends_with("#" + name)
    for better in (path == name, longer, whole):
        best = found.filter(better)
        if len(best):
            return same_images(lineage, best)
    return same_images(lineage, found)


def same_images(lineage: pl.LazyFrame, files: pl.DataFrame) -> pl.DataFrame:
    """Return all files of one image; several images stay as they are, and so does a file that could not be read."""
    if files["id"].n_unique() != 1 or files["id"].null_count():
        return files
    copies = lineage.filter(pl.col("id") == files["id"][0]).collect()
    return pl.concat([files, copies]).unique(["role", "source", "path"], keep="first", maintain_order=True)


def suggest(lineage: pl.LazyFrame, name: str) -> str:
    """Return the paths that come nearest to an unknown name."""
    last = name.rstrip("/").rpartition("/")[2]
    stem = last.rpartition(".")[0] or last
    alike = lineage.filter(pl.col("path").str.contains(stem, literal=True)).select("path").head(3).collect()["path"]
    near = alike.to_list()
    if not near:
        some = lineage.select("path").head(COMPARED).collect()["path"].to_list()
        ends = {path.rpartition("/")[2]: path for path in reversed(some)}
        near = get_close_matches(name, some) or [ends[end] for end in get_close_matches(last, ends)]
    if not near:
        return "; give an id (six digits of it are enough) or a path as lineage.parquet has it"
    return f"; near to it: {', '.join(near)}"


def gather_facts(dataset: Path, story: Story, identity: str | None) -> Facts:
    """Look an image up in every table; one without an id (no byte of it could be read) is in none."""
    identity = identity or ""
    mine = pl.col("id") == identity
    component = story.components.filter(mine).select("component")
    group = story.components.join(component, on="component", how="semi")
    touched = story.touches.filter(pl.col("reference_id") == identity)
    brought_by, brought = story.picks.filter(mine), story.picks.filter(pl.col("seed_id") == identity)
    clusters = story.clusters.filter(mine).collect()["cluster"].to_list()
    levels = story.balanced.filter(mine).collect()["clusters"].to_list()
    by_likeness = [-pl.col("similarity"), pl.col("rank"), pl.col("seed_id"), pl.col("id")]
    return Facts(
        group=group.sort(~mine, -pl.col("score"), "id").head(LISTED).collect(),
        group_size=count(group),
        touches=story.touches.filter(mine).sort(-pl.col("score"), "exclude_set").collect(),
        touched=touched.sort(-pl.col("score"), "id").head(LISTED).collect(),
        touched_count=count(touched),
        brought_by=brought_by.sort(by_likeness).head(LISTED).collect(),
        picks=count(brought_by),
        brought=brought.sort(by_likeness).head(LISTED).collect(),
        brought_count=count(brought),
        cluster=clusters[0] if clusters else None,
        levels=levels[0] if levels else None,
        moderated=story.moderation.filter(mine).collect(),
        row=find_row(dataset, identity),
    )


def count(table: pl.LazyFrame) -> int:
    """Return the number of rows."""
    return int(table.select(pl.len()).collect().item())


def find_row(dataset: Path, identity: str) -> pl.DataFrame:
    """Return (file, cluster) of an image in the dataset's shards; they are ordered by id, so few bytes are read."""
    shards = sorted((dataset / "data").glob("train-*.parquet"))
    if not shards:
        raise InputError(f"{dataset} is no dataset of curate: it has no data/train-*.parquet")
    rows = pl.scan_parquet(shards, glob=False, include_file_paths="file")
    return rows.filter(pl.col("id") == identity).select("file", "cluster").collect()
