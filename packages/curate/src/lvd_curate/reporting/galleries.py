"""Which images the report shows: groups of copies, touches of excluded sets, and seeds beside what they brought."""

from typing import NamedTuple

import polars as pl

from lvd_curate.reporting.story import Story

GROUPS, GROUP_MEMBERS = 50, 8
TOUCHES = 6  # closest, and as many of the weakest, per excluded set
STRIPS, STRIPS_PER_SET, PICKS = 48, 6, 8  # seeds in all, seeds per set and mode, pool images per seed
HUBS, HUB_SEEDS = 12, 5
EXTREMES = 12  # picks most and least like their seed


class Shown(NamedTuple):
    """One picture and what stands under it."""

    id: str
    note: str


class Strip(NamedTuple):
    """One picture and those that belong to it."""

    head: Shown
    members: list[Shown]
    title: str = ""
    more: int = 0  # members for which there was no room


class Gallery(NamedTuple):
    """Strips under one heading."""

    title: str
    strips: list[Strip]


class Galleries(NamedTuple):
    """All that the report shows."""

    groups: list[Strip]
    touches: list[Gallery]  # reference beside the image, closest and weakest of every excluded set
    retrieved: list[Gallery]  # every seed set and mode
    hubs: list[Strip]  # pool images beside the seeds that chose them
    extremes: list[Gallery]  # seed beside pool image, least and most alike


def gather_pictures(story: Story) -> Galleries:
    """Choose all pictures; the same story gives the same choice."""
    return Galleries(
        gather_groups(story.components),
        gather_touches(story.touches),
        gather_retrieved(story.picks),
        gather_hubs(story.picks),
        gather_extremes(story.picks),
    )


def choose_shown(story: Story) -> list[str]:
    """Return the ids of all images that the report will show, sorted."""
    return list_shown(gather_pictures(story))


def list_shown(pictures: Galleries) -> list[str]:
    """Return the ids of all images in the galleries, sorted."""
    galleries = [Gallery("", pictures.groups), Gallery("", pictures.hubs)]
    galleries += [*pictures.touches, *pictures.retrieved, *pictures.extremes]
    strips = [strip for gallery in galleries for strip in gallery.strips]
    return sorted({shown.id for strip in strips for shown in [strip.head, *strip.members]})


def gather_groups(components: pl.LazyFrame) -> list[Strip]:
    """Return the largest groups of copies: who stands for each, beside it the others, least alike first."""
    sizes = components.group_by("component").agg(size=pl.len(), cut=pl.col("cut").max()).filter(pl.col("size") > 1)
    largest = collect(sizes.sort("size", "component", descending=[True, False]).head(GROUPS))
    members = collect(components.filter(pl.col("component").is_in(largest["component"].to_list())))
    strips = []
    for component, size, cut in largest.rows():
        group = members.filter(pl.col("component") == component)
        stands_for = group.group_by("representative").len().sort("len", "representative", descending=[True, False])
        head = stands_for["representative"][0]
        others = group.filter(pl.col("id") != head).sort("score", "id")
        mine = others.filter(pl.col("representative") != pl.col("id"))
        title = f"{size:,} images"
        if len(mine):
            title += f", least alike {mine['score'][0]:.3f}"
        if cut is not None:
            title += f"; part of a larger one, cut at {cut:.2f}"
        notes = [
            Shown(identity, "seed, stays" if identity == representative else f"{score:.3f}")
            for identity, representative, score in others.select("id", "representative", "score")
            .head(GROUP_MEMBERS)
            .rows()
        ]
        strips.append(Strip(Shown(head, "stands"), notes, title, size - 1 - len(notes)))
    return strips


def gather_touches(touches: pl.LazyFrame) -> list[Gallery]:
    """Return the closest and the weakest touches of every excluded set, each reference once."""
    ordered = touches.sort(-pl.col("score"), "id")
    best = ordered.unique(["exclude_set", "reference_id"], keep="first", maintain_order=True)
    pairs = best.sort("exclude_set", -pl.col("score"), "reference_id").with_columns(
        place=pl.int_range(pl.len()).over("exclude_set"), count=pl.len().over("exclude_set")
    )
    shown = collect(pairs.filter((pl.col("place") < TOUCHES) | (pl.col("place") >= pl.col("count") - TOUCHES)))
    galleries = []
    for (name,), table in shown.group_by("exclude_set", maintain_order=True):
        strips = [
            Strip(Shown(reference, "excluded"), [Shown(identity, f"{score:.3f}")])
            for reference, identity, score in table.select("reference_id", "id", "score").rows()
        ]
        galleries.append(Gallery(str(name), strips))
    return galleries


def gather_retrieved(picks: pl.LazyFrame) -> list[Gallery]:
    """Return, per seed set and mode, some seeds (by id, which is a shuffle) and what they brought, most alike first."""
    first = pl.col("seed_id").unique().bottom_k(STRIPS_PER_SET)
    chosen = collect(picks.group_by("seed_set", "mode").agg(first)).sort("seed_set", pl.col("mode") != "sample")
    each = max(1, STRIPS // max(1, len(chosen)))
    galleries = []
    for seed_set, mode, seed_ids in chosen.rows():
        seeds = sorted(seed_ids)[:each]
        mine = picks.filter(
            (pl.col("seed_set") == seed_set) & (pl.col("mode") == mode) & pl.col("seed_id").is_in(seeds)
        )
        brought = collect(mine).sort(-pl.col("similarity"), "id").unique(["seed_id", "id"], maintain_order=True)
        strips = [strip_of_seed(seed, brought.filter(pl.col("seed_id") == seed)) for seed in seeds]
        how = "per seed image" if mode == "sample" else "per cluster"
        galleries.append(Gallery(f"{seed_set}, {how}", strips))
    return galleries


def strip_of_seed(seed: str, brought: pl.DataFrame) -> Strip:
    """Return a seed beside the first of the images it brought."""
    members = [
        Shown(identity, f"{similarity:.3f}") for identity, similarity in brought.select("id", "similarity").rows()
    ]
    return Strip(Shown(seed, "seed"), members[:PICKS], more=max(0, len(members) - PICKS))


def gather_hubs(picks: pl.LazyFrame) -> list[Strip]:
    """Return the pool images that most seeds chose, with the seeds nearest to them; none that only one seed chose."""
    counts = picks.group_by("id").agg(seeds=pl.col("seed_id").n_unique()).filter(pl.col("seeds") > 1)
    hubs = collect(counts.sort("seeds", "id", descending=[True, False]).head(HUBS))
    chosen = collect(picks.filter(pl.col("id").is_in(hubs["id"].to_list()))).sort(-pl.col("similarity"), "seed_id")
    strips = []
    for identity, count in hubs.rows():
        seeds = chosen.filter(pl.col("id") == identity).unique("seed_id", keep="first", maintain_order=True)
        near = [Shown(seed, f"{similarity:.3f}") for seed, similarity in seeds.select("seed_id", "similarity").rows()]
        strips.append(Strip(Shown(identity, f"{count} seeds"), near[:HUB_SEEDS], more=max(0, count - HUB_SEEDS)))
    return strips


def gather_extremes(picks: pl.LazyFrame) -> list[Gallery]:
    """Return the picks least and most like their seed, one of every seed."""
    pairs = picks.select("seed_id", "id", "similarity")
    galleries = []
    for title, descending in (("Worst neighbours", False), ("Best neighbours", True)):
        ordered = pairs.sort("similarity", "seed_id", "id", descending=[descending, False, False])
        ends = ordered.unique("seed_id", keep="first", maintain_order=True).head(EXTREMES)
        strips = [
            Strip(Shown(seed, "seed"), [Shown(identity, f"{similarity:.3f}")])
            for seed, identity, similarity in collect(ends).rows()
        ]
        galleries.append(Gallery(title, strips))
    return [gallery for gallery in galleries if gallery.strips]


def collect(table: pl.LazyFrame) -> pl.DataFrame:
    """Run a query over tables that may be larger than memory."""
    return table.collect(engine="streaming")
