"""What a finished dataset tells a reader: lineage.parquet, provenance.json, README.md (its card) and report.html.

Nothing here depends on the clock or the machine's name: the same inputs give the same bytes.
"""

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import polars as pl

from lvd_curate.artifacts import write_table, write_whole
from lvd_curate.columns import DROPPED, EXCLUDE, KEPT, POOL, ROLES, SEEDS
from lvd_curate.config import BuildConfig
from lvd_curate.images import encode_preview
from lvd_curate.kmeans import effective_clusters
from lvd_curate.locations import read_bytes
from lvd_curate.provenance import library_versions

SHOWN_SEEDS, SHOWN_PICKS = 16, 8  # rows and columns of the picture of what was retrieved
SHOWN_GROUPS, SHOWN_MEMBERS = 16, 10
SHOWN_CLUSTERS = 200  # bars
PREVIEW_SIDE = 96  # pixels


class Tables(NamedTuple):
    """The tables that a run leaves, as the pipeline knows them."""

    files: pl.DataFrame  # LISTING beside SCREENED
    lineage: pl.DataFrame
    components: pl.DataFrame
    touches: pl.DataFrame
    clusters: pl.DataFrame
    picks: pl.DataFrame
    rows: pl.DataFrame  # id, seed, retrieved_by, cluster: the dataset


def write_report(
    tables: Tables, config: BuildConfig, fingerprint: str, encoders: dict[str, str], folder: Path
) -> dict[str, Any]:
    """Write everything but the images into a dataset's folder and return the counts."""
    counts = count_everything(tables)
    provenance = {
        "fingerprint": fingerprint,
        "config": config.content(),
        "encoders": encoders,
        "counts": counts,
        "versions": library_versions(),
    }
    view = {"name": config_name(config), "mode": copy_mode(config), "config": config.content(), "counts": counts}
    view["size"] = size_category(len(tables.rows))
    write_table(tables.lineage, folder / "lineage.parquet")
    write_text(json.dumps(provenance, indent=2) + "\n", folder / "provenance.json")
    write_text(render("card.md.j2", view), folder / "README.md")
    write_text(render("report.html.j2", view | draw_pictures(tables)), folder / "report.html")
    return counts


def copy_mode(config: BuildConfig) -> str:
    """Say what decided which images are copies."""
    if config.deduplicate.encoder is None:
        return "hash-only mode: sha256 and perceptual hashes, no copy-detection encoder"
    return f"hashes and the copy-detection encoder {config.deduplicate.encoder}"


def size_category(images: int) -> str:
    """Return the Hugging Face hub's word for a dataset of this size."""
    words = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
    return words[min(len(words) - 1, max(0, len(str(images)) - 3))]


def config_name(config: BuildConfig) -> str:
    """Name a dataset after its pools and seed sets."""
    return f"{', '.join(config.pool)} curated with {', '.join(config.seeds)}"


def count_everything(tables: Tables) -> dict[str, Any]:
    """Return the funnel and what every stage has to say in numbers, as plain values."""
    lineage, pool = tables.lineage, tables.lineage.filter(pl.col("role") == POOL)
    kept = lineage.filter(pl.col("status") == KEPT)
    clean = pool.filter(pl.col("stage").is_in(["retrieve", "rebalance", "materialize"]))
    sizes = tables.components.group_by("component").len()["len"]
    return {
        "files": {role: lineage.filter(pl.col("role") == role).height for role in ROLES},
        "images": {role: kept.filter(pl.col("role") == role).height for role in (POOL, SEEDS)},
        "funnel": {role: count_funnel(lineage.filter(pl.col("role") == role)) for role in (POOL, SEEDS)},
        "reasons": count_reasons(lineage.filter(pl.col("role") != EXCLUDE)),
        "duplicate_groups": sizes.filter(sizes > 1).len(),
        "largest_group": int(sizes.max() or 0),  # type: ignore[arg-type]
        "touched": dict(tables.touches.group_by("exclude_set").len().sort("exclude_set").rows()),
        "retrieved": count_picks(tables.picks),
        "effective_clusters": {
            "clean pool": count_effective(tables.clusters, clean["id"]),
            "retrieved": count_effective(tables.clusters, tables.picks["id"].unique()),
            "dataset": count_effective(tables.clusters, tables.rows["id"]),
        },
        "clusters": tables.clusters["cluster"].n_unique(),
    }


def count_funnel(lineage: pl.DataFrame) -> list[dict[str, Any]]:
    """Return what each stage dropped of one role's files and what was left after it."""
    left, steps = lineage.height, []
    for stage in ("screen", "embed", "deduplicate", "decontaminate", "retrieve", "rebalance", "materialize"):
        dropped = lineage.filter((pl.col("stage") == stage) & (pl.col("status") == DROPPED)).height
        left -= dropped
        steps.append({"stage": stage, "dropped": dropped, "left": left})
    return steps


def count_reasons(lineage: pl.DataFrame) -> list[dict[str, Any]]:
    """Return how often each reason was given, details after a colon left out."""
    plain = lineage.drop_nulls("reason").with_columns(pl.col("reason").str.split(":").list.first())
    return (
        plain.group_by("stage", "reason")
        .len("files")
        .sort("files", "stage", "reason", descending=[True, False, False])
        .to_dicts()
    )


def count_picks(picks: pl.DataFrame) -> list[dict[str, Any]]:
    """Return, per seed set and mode, how many picks were made and how many images they are; the rest collided."""
    groups = picks.group_by("seed_set", "mode", maintain_order=True)
    similarity = pl.col("similarity").mean().round(4)
    return groups.agg(picks=pl.len(), images=pl.col("id").n_unique(), mean_similarity=similarity).to_dicts()


def count_effective(clusters: pl.DataFrame, ids: pl.Series) -> float:
    """Return the effective number of clusters that these images cover."""
    return round(effective_clusters(clusters.filter(pl.col("id").is_in(ids.to_list()))["cluster"].to_numpy()), 2)


def draw_pictures(tables: Tables) -> dict[str, Any]:
    """Return the galleries and bars of the report, images inlined."""
    retrieved, groups = gather_retrieved(tables.picks), gather_groups(tables.components)
    shown = {entry["id"] for row in [*retrieved, *groups] for entry in [row["head"], *row["members"]]}
    files = tables.files.filter(pl.col("id").is_in(list(shown)) & pl.col("reason").is_null())
    files = files.unique("id", keep="first", maintain_order=True).sort("file", "item", nulls_last=True)
    previews = {}
    for identity, data in zip(files["id"], read_bytes(files), strict=True):
        if isinstance(data, OSError):
            raise data
        previews[identity] = "data:image/jpeg;base64," + base64.b64encode(encode_preview(data, PREVIEW_SIDE)).decode()
    bars = tables.clusters.filter(pl.col("id").is_in(tables.rows["id"].to_list()))
    before, after = (table.group_by("cluster").len() for table in (tables.clusters, bars))
    sizes = (
        before.join(after, on="cluster", how="left", suffix="_kept")
        .fill_null(0)
        .sort("len", "cluster", descending=[True, False])
    )
    return {
        "retrieved": retrieved,
        "groups": groups,
        "previews": previews,
        "paths": dict(files.select("id", "path").rows()),
        "bars": sizes.head(SHOWN_CLUSTERS).to_dicts(),
        "tallest": int(sizes["len"].max() or 1),  # type: ignore[arg-type]
    }


def gather_retrieved(picks: pl.DataFrame) -> list[dict[str, Any]]:
    """Return some seeds, every set in turn, with the pool images they brought, most alike first."""
    best = picks.sort("seed_id", -pl.col("similarity"), "id").unique(["seed_id", "id"], maintain_order=True)
    seeds = best.select("seed_set", "seed_id").unique(maintain_order=True)
    seeds = seeds.with_columns(turn=pl.int_range(pl.len()).over("seed_set")).sort("turn", "seed_set").head(SHOWN_SEEDS)
    return [
        {
            "head": {"id": seed_id, "note": seed_set},
            "members": [
                {"id": identity, "note": f"{similarity:.2f}"}
                for identity, similarity in best.filter(pl.col("seed_id") == seed_id)
                .select("id", "similarity")
                .head(SHOWN_PICKS)
                .rows()
            ],
        }
        for seed_set, seed_id, _ in seeds.rows()
    ]


def gather_groups(components: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the largest groups of near-duplicates, the image that stands for each first."""
    sizes = components.group_by("component").len().filter(pl.col("len") > 1)
    groups = []
    for component, size in sizes.sort("len", "component", descending=[True, False]).head(SHOWN_GROUPS).rows():
        members = components.filter(pl.col("component") == component).sort(-pl.col("score"), "id")
        head = members["representative"][0]
        others = members.filter(pl.col("id") != head).select("id", "score").head(SHOWN_MEMBERS).rows()
        groups.append(
            {
                "head": {"id": head, "note": f"{size} images"},
                "members": [{"id": identity, "note": f"{score:.2f}"} for identity, score in others],
            }
        )
    return groups


def render(template: str, view: dict[str, Any]) -> str:
    """Fill in a template; everything that comes from data is escaped in HTML."""
    loader = jinja2.PackageLoader("lvd_curate", "templates")
    escape = jinja2.select_autoescape(["html.j2"])
    environment = jinja2.Environment(
        loader=loader, autoescape=escape, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(view)


def write_text(text: str, file: Path) -> None:
    """Write a text file, whole or not at all."""
    with write_whole(file) as stream:
        stream.write(text.encode())
