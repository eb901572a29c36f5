"""The shapes of the report's charts, as numbers that the template draws."""

from typing import NamedTuple

import numpy as np
import polars as pl

WIDE, NARROW = 0.05, 0.01  # bins of scores; narrow when all are high
HIGH = 0.8
BARS = 120  # clusters, or groups of clusters that follow one another in size


class Bar(NamedTuple):
    """One bar of a histogram."""

    label: str
    total: int
    height: float  # 0 to 1


class Point(NamedTuple):
    """One point of a curve: what it stands for, and where it is drawn, 0 to 1 from the lower left corner."""

    threshold: float
    images: int
    x: float
    y: float


class Curve(NamedTuple):
    """What a stage would drop at each threshold."""

    stage: str
    points: list[Point]


class Shares(NamedTuple):
    """A cluster's share of the images before and after, drawn from 0 to 1 of the largest."""

    before: float
    after: float
    label: str


def draw_scores(table: pl.LazyFrame, column: str) -> list[Bar]:
    """Return the histogram of scores up to 1, from the first bin that has any; what is below 0 counts as 0."""
    lowest = table.select(pl.col(column).min()).collect(engine="streaming").item()
    if lowest is None:
        return []
    width = NARROW if lowest >= HIGH else WIDE
    bins = round(1 / width)
    place = (pl.col(column) * bins).floor().clip(0, bins - 1).cast(pl.Int64)
    found = table.drop_nulls(column).group_by(place.alias("bin")).len().collect(engine="streaming")
    counts = np.zeros(bins, dtype=np.int64)
    counts[found["bin"].to_numpy()] = found["len"].to_numpy()
    first = int(np.flatnonzero(counts)[0])
    return [
        Bar(f"{place / bins:.2f} to {(place + 1) / bins:.2f}", count, count / int(counts.max()))
        for place, count in enumerate(counts.tolist())
        if place >= first
    ]


def draw_sizes(sizes: np.ndarray) -> list[Bar]:
    """Return how many groups there are of 2, 3 to 4, 5 to 8 ... images; heights are logarithmic."""
    sizes = sizes[sizes > 1]
    if not len(sizes):
        return []
    counts = np.bincount(np.ceil(np.log2(sizes)).astype(np.int64))[1:]
    tops = 2 ** np.arange(1, len(counts) + 1)
    labels = [f"{low}" if low == high else f"{low} to {high}" for low, high in zip(tops // 2 + 1, tops, strict=True)]
    heights = np.log1p(counts) / np.log1p(counts.max())
    return [Bar(*bar) for bar in zip(labels, counts.tolist(), heights.tolist(), strict=True)]


def draw_curves(curves: pl.LazyFrame) -> list[Curve]:
    """Return a curve per stage, deduplicate first, from just below the lowest score to 1."""
    drawn = []
    for (stage,), table in (
        curves.sort("stage", "threshold", descending=[True, False]).collect().group_by("stage", maintain_order=True)
    ):
        low, high, most = table["threshold"][0], table["threshold"][-1], max(1, int(table["images"].to_numpy().max()))
        points = [
            Point(threshold, images, (threshold - low) / (high - low) if high > low else 0.0, images / most)
            for threshold, images in table.select("threshold", "images").rows()
        ]
        drawn.append(Curve(str(stage), points))
    return drawn


def draw_balance(clusters: pl.LazyFrame, kept: pl.LazyFrame) -> list[Shares]:
    """Return every cluster's share of the clean images and of the dataset, largest first.

    More clusters than there is room for are averaged with those next to them in size.
    """
    before = clusters.group_by("cluster").len()
    after = clusters.join(kept, on="id", how="semi").group_by("cluster").len("kept")
    table = before.join(after, on="cluster", how="left").fill_null(0).sort(-pl.col("len").cast(pl.Int64), "cluster")
    found = table.collect(engine="streaming")
    if found.is_empty():
        return []
    sizes = found.select("len", "kept").to_numpy().astype(np.float64)  # [C, 2]
    shares = sizes / np.maximum(sizes.sum(axis=0), 1)
    parts = np.array_split(np.arange(len(found)), min(BARS, len(found)))
    means = np.stack([shares[part].mean(axis=0) for part in parts])
    bars = []
    for part, (light, dark) in zip(parts, means / means.max(), strict=True):
        which = f"cluster {found['cluster'][int(part[0])]}" if len(part) == 1 else f"{len(part)} clusters"
        had, has = (int(column) for column in sizes[part].sum(axis=0))
        bars.append(Shares(float(light), float(dark), f"{which}: {has:,} of {had:,} images"))
    return bars
