"""What a dataset has to say in numbers: the funnel, the reasons, what was retrieved, and how even it is.

Everything is counted by scanning: the tables may be larger than memory.
"""

from typing import Any

import numpy as np
import polars as pl

from lvd_curate.columns import DROPPED, EXCLUDE, KEPT, POOL, ROLES, SEEDS
from lvd_curate.reporting.story import Story

FUNNEL = (
    "screen",
    "moderate",
    "embed",
    "deduplicate",
    "decontaminate",
    "retrieve",
    "rebalance",
    "materialize",
)
CLEAN = pl.col("stage").is_in(["retrieve", "rebalance", "materialize"])  # where clean images end


def count_everything(lineage: pl.DataFrame | pl.LazyFrame, story: Story) -> dict[str, Any]:
    """Return the funnel and what every stage has to say in numbers, as plain values.

    `lineage` needs no paths.
    """
    files = lineage.lazy()
    verdicts = count_verdicts(files)
    sizes = count_sizes(story.components, "component")
    ids = {
        "clean pool": files.filter((pl.col("role") == POOL) & CLEAN).select("id"),
        "retrieved": story.picks.select("id"),
        "dataset": files.filter(pl.col("status") == KEPT).select("id"),
    }
    return {
        "files": {role: count_files(verdicts, pl.col("role") == role) for role in ROLES},
        "images": {
            role: count_files(verdicts, (pl.col("role") == role) & (pl.col("status") == KEPT)) for role in (POOL, SEEDS)
        },
        "sets": count_sets(verdicts),
        "funnel": {role: count_funnel(verdicts.filter(pl.col("role") == role)) for role in (POOL, SEEDS)},
        "reasons": count_reasons(verdicts.filter(pl.col("role") != EXCLUDE)),
        "duplicate_groups": int((sizes > 1).sum()),
        "largest_group": int(sizes.max(initial=0)),
        "cut": count_cut(story.components),
        "touched": count_touched(story.touches),
        "retrieved": count_picks(story.picks),
        "chosen": count_chosen(story.picks),
        "effective_clusters": {name: count_effective(story.clusters, chosen) for name, chosen in ids.items()},
        "clusters": len(count_sizes(story.clusters, "cluster")),
        "levels": count_levels(story.balanced),
        "moderation": count_moderated(story.moderation),
    }


def count_verdicts(lineage: pl.LazyFrame) -> pl.DataFrame:
    """Return how many files of each set met each end: (role, source, status, stage, reason, files).

    Details after a reason's colon are left out.
    """
    keys = ["role", "source", "status", "stage", "reason"]
    plain = lineage.with_columns(pl.col("reason").str.split(":").list.first())
    return plain.group_by(keys).len("files").collect(engine="streaming").sort(keys)


def count_files(verdicts: pl.DataFrame, which: pl.Expr) -> int:
    """Return the number of files of some verdicts."""
    return int(verdicts.filter(which)["files"].sum())


def count_sets(verdicts: pl.DataFrame) -> list[dict[str, Any]]:
    """Return, per named set, its files and how many of them are in the dataset."""
    kept = pl.col("files").filter(pl.col("status") == KEPT).sum()
    sets = verdicts.group_by("role", "source").agg(pl.col("files").sum(), kept=kept)
    return sets.sort(pl.col("role").replace_strict(list(ROLES), [0, 1, 2]), "source").to_dicts()


def count_funnel(verdicts: pl.DataFrame) -> list[dict[str, Any]]:
    """Return what each stage dropped of one role's files and what was left after it."""
    left, steps = int(verdicts["files"].sum()), []
    for stage in FUNNEL:
        dropped = count_files(verdicts, (pl.col("stage") == stage) & (pl.col("status") == DROPPED))
        left -= dropped
        steps.append({"stage": stage, "dropped": dropped, "left": left})
    return steps


def count_reasons(verdicts: pl.DataFrame) -> list[dict[str, Any]]:
    """Return how often each reason was given."""
    given = verdicts.drop_nulls("reason").group_by("stage", "reason").agg(pl.col("files").sum())
    return given.sort("files", "stage", "reason", descending=[True, False, False]).to_dicts()


def count_cut(components: pl.LazyFrame) -> dict[str, int]:
    """Return how many images were in components too large to be whole, and into how many parts these were cut."""
    parts = components.filter(pl.col("cut").is_not_null())
    counts = parts.select(images=pl.len(), parts=pl.col("component").n_unique())
    return counts.collect(engine="streaming").to_dicts()[0]


def count_touched(touches: pl.LazyFrame) -> dict[str, int]:
    """Return how many images each excluded set costs."""
    return dict(touches.group_by("exclude_set").agg(pl.col("id").n_unique()).sort("exclude_set").collect().rows())


def count_picks(picks: pl.LazyFrame) -> list[dict[str, Any]]:
    """Return, per seed set and mode, how many picks were made and how many images they are; the rest collided."""
    groups = picks.group_by("seed_set", "mode").agg(
        seeds=pl.col("seed_id").n_unique(),
        picks=pl.len(),
        images=pl.col("id").n_unique(),
        mean_similarity=pl.col("similarity").cast(pl.Float64).mean().round(4),
    )
    return groups.sort("seed_set", pl.col("mode") != "sample").collect(engine="streaming").to_dicts()


def count_chosen(picks: pl.LazyFrame) -> dict[str, int]:
    """Return how many images were chosen at all, by several seeds, and by several seed sets."""
    images = picks.group_by("id").agg(seeds=pl.col("seed_id").n_unique(), sets=pl.col("seed_set").n_unique())
    counts = images.select(
        images=pl.len(), by_several_seeds=(pl.col("seeds") > 1).sum(), by_several_sets=(pl.col("sets") > 1).sum()
    )
    return counts.collect(engine="streaming").to_dicts()[0]


def count_effective(clusters: pl.LazyFrame, ids: pl.LazyFrame) -> float:
    """Return the effective number of clusters that these images cover."""
    return effective_number(count_sizes(clusters.join(ids, on="id", how="semi"), "cluster"))


def count_levels(balanced: pl.LazyFrame) -> list[dict[str, Any]]:
    """Return, per level of the rebalancing hierarchy, finest first, its clusters and how many are effective."""
    depth = int(balanced.head(1).collect()["clusters"].list.len().sum())
    levels = []
    for level in range(depth):
        table = balanced.select("kept", cluster=pl.col("clusters").list.get(level))
        before = count_sizes(table, "cluster")
        after = count_sizes(table.filter("kept"), "cluster")
        levels.append(
            {"clusters": len(before), "retrieved": effective_number(before), "dataset": effective_number(after)}
        )
    return levels


def count_moderated(moderation: pl.LazyFrame) -> dict[str, int]:
    """Return how many images have a score for unsafe content, how many show faces, and how many faces."""
    faces = pl.col("faces").list.len().fill_null(0)
    counts = moderation.select(
        scored=pl.col("nsfw").count(), searched=pl.col("faces").count(), with_faces=(faces > 0).sum(), faces=faces.sum()
    )
    return counts.collect(engine="streaming").to_dicts()[0]


def count_sizes(table: pl.LazyFrame, key: str) -> np.ndarray:
    """Return how many rows share each value of a column, int64, largest first."""
    sizes = table.group_by(key).len().select(pl.col("len").cast(pl.Int64)).collect(engine="streaming")["len"]
    return sizes.sort(descending=True).to_numpy()


def effective_number(sizes: np.ndarray) -> float:
    """Return exp(entropy) of cluster sizes: how many equal clusters would be as diverse; 0 without any."""
    if not len(sizes):
        return 0.0
    shares = sizes / sizes.sum()
    return round(float(np.exp(-(shares * np.log(shares)).sum())), 2)


def count_curves(components: pl.DataFrame, touches: pl.DataFrame) -> pl.DataFrame:
    """Return (stage, threshold, images): how many images each stage would drop at this and every higher threshold.

    `components` has `fall` and `representative`, `touches` the score of each touch.
    """
    dropped = components.filter(pl.col("id") != pl.col("representative"))["fall"]
    closest = touches.group_by("id").agg(pl.col("score").max())["score"]
    rows = []
    for stage, scores in (("deduplicate", dropped), ("decontaminate", closest)):
        values = np.sort(scores.drop_nulls().to_numpy())
        if len(values):
            grid = np.arange(np.ceil(values[0] * 100) / 100 - 0.01, 1.005, 0.01).round(2)
            left = len(values) - np.searchsorted(values, grid.astype(np.float32), side="right")
            rows += [(stage, float(bar), int(images)) for bar, images in zip(grid, left, strict=True)]
    schema = {"stage": pl.String, "threshold": pl.Float64, "images": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")
