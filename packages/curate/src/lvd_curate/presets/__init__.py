"""Compositions of published datasets, as tables.

`lvd142m.csv` is Table 15 of DINOv2 (arXiv 2304.07193): seed set, its images, whether they are part of the dataset as
they are, pool images retrieved per seed image, or the number of clusters with more than three of its images.
"""

from importlib.resources import files

import polars as pl

from lvd_curate.errors import InputError
from lvd_curate.stages.retrieve import PAPER_CAP, PAPER_PER_CLUSTER


def list_presets() -> list[str]:
    """Return the names of the presets."""
    return sorted(entry.name.removesuffix(".csv") for entry in files(__name__).iterdir() if entry.name.endswith(".csv"))


def load_composition(preset: str) -> pl.DataFrame:
    """Return a preset's table with the images that each seed set brings: retrieved (nominal), capped, total.

    A cluster brings 10,000 images, a seed set's clusters at most a million (A.4). InputError for an unknown name.
    """
    if preset not in list_presets():
        raise InputError(f"--preset {preset!r}: there is {', '.join(list_presets())}")
    table = pl.read_csv((files(__name__) / f"{preset}.csv").read_bytes())
    per_image = pl.col("images") * pl.col("per_image")
    per_cluster = pl.col("clusters") * PAPER_PER_CLUSTER
    as_is = pl.when("as_is").then(pl.col("images")).otherwise(0)
    return table.with_columns(
        as_is=as_is,
        retrieved=pl.coalesce(per_image, per_cluster, 0),
        kept=pl.coalesce(per_image, per_cluster.clip(upper_bound=PAPER_CAP), 0),
    ).with_columns(total=pl.col("as_is") + pl.col("kept"))


def show_composition(preset: str) -> str:
    """Lay a preset's table out as text, with its total."""
    table = load_composition(preset)
    lines = [f"{'seed set':38} {'images':>12} {'as is':>12} {'how':>16} {'retrieved':>12} {'total':>12}"]
    for row in table.to_dicts():
        how = f"{row['per_image']} per image" if row["per_image"] else ""
        how = f"{row['clusters']:,} clusters" if row["clusters"] else how
        numbers = f"{row['as_is']:>12,} {how:>16} {row['retrieved']:>12,} {row['total']:>12,}"
        lines.append(f"{row['seed_set']:38} {row['images']:>12,} {numbers}")
    return "\n".join(
        [*lines, f"{'total':38} {'':>12} {table['as_is'].sum():>12,} {'':>16} {'':>12} {table['total'].sum():>12,}"]
    )
