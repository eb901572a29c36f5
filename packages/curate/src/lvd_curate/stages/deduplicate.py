"""Deduplicate: link copies, take connected components, keep one image of each (paper A.3).

The paper sets no bound to a component. Blank pages, logos, maps and charts chain into giant ones there, in which the
ends have nothing in common; ours are cut again where they are weakest, and say so.
"""

import logging

import numpy as np
import polars as pl

from lvd_curate.config import DeduplicateConfig
from lvd_curate.copy_detection.copies import Copies, CopyBars, Looks, find_copies_within, score_pairs
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.search.components import label_components
from lvd_curate.search.forest import find_falls, label_forest, span_forest

VERSION = 4
BATCH_EDGES = 1 << 22  # merged at once: some 200 MB
CUTS = np.arange(0.61, 1.0, 0.01).round(2)  # similarities tried in turn on a component that is too large
PIECE = 8192  # pairs scored in one piece of work

logger = logging.getLogger(__name__)


def deduplicate(images: Looks, config: DeduplicateConfig, bench: Workbench) -> pl.DataFrame:
    """Return (id, component, representative, score, cut, fall) per image: who stands for it, how alike the two are.

    The score is a cosine with a copy-detection embedding, else the likeness of the thumbnails. `cut` is null but in the
    parts of a component larger than `max_component`: the similarity below which links were cut to get them. `fall` is
    the highest threshold at which the image would still join a better one, null where it joins none.

    The table has one row per distinct id, with is_seed, width, height and bytes. Seeds represent themselves and come
    first; then most pixels, largest file, smallest id (the paper does not say which member it keeps).
    """
    pixels = pl.col("width").cast(pl.Int64) * pl.col("height")
    images = images._replace(table=images.table.sort(~pl.col("is_seed"), -pixels, -pl.col("bytes"), "id"))
    bars = CopyBars(config.hash_distance, config.hash_correlation, config.neighbours, config.threshold)
    component, cut, fall = link(images, bars, config.max_component, bench)
    rows = np.arange(len(component))
    representative = np.where(images.table["is_seed"].to_numpy(), rows, component)
    ids = images.table["id"]
    return pl.DataFrame(
        {
            "id": ids,
            "component": component,
            "representative": ids.gather(representative),
            "score": score_with(representative, images, bench),
            "cut": pl.Series(cut, dtype=pl.Float32).fill_nan(None),
            "fall": pl.Series(fall, dtype=pl.Float32).fill_nan(None),
        }
    )


def link(images: Looks, bars: CopyBars, largest: int, bench: Workbench) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each image's component, named by its first image, int64 [N], where it was cut and where it falls.

    The latter two are float32 [N], NaN where there is nothing to say.
    """
    count = len(images.table)
    forest = span_forest(find_copies_within(images, bars, bench), BATCH_EDGES)
    component, fall = label_forest(count, forest), find_falls(count, forest)
    cut = np.full(count, np.nan, dtype=np.float32)
    sizes = np.bincount(component, minlength=count)
    giants = np.flatnonzero(sizes > largest)
    if len(giants):
        edges, similarities = forest
        trees = component[edges[:, 0]]
        for giant in giants:
            members, mine = np.flatnonzero(component == giant), trees == giant
            parts, cut[members] = cut_component(members, Copies(edges[mine], similarities[mine]), largest)
            component[members] = parts
            logger.warning(
                "deduplicate: %d images around %s are one component; cut at up to %.2f into %d of at most %d",
                *(sizes[giant], images.table["id"][int(giant)], cut[members].max(), *measure(parts)),
            )
    return component, cut, fall


def cut_component(members: np.ndarray, links: Copies, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut the weakest links of a component until its parts have at most `largest` members, or only equals are left.

    The links need only be those of its maximum spanning forest, which parts where all of them would.
    Returns each member's part, named by its first member, int64 [M], and the similarity below which its links were cut.
    """
    places = np.searchsorted(members, links.pairs)
    parts, cut = np.zeros(len(members), dtype=np.int64), np.zeros(len(members), dtype=np.float32)
    for bar in CUTS:
        sizes = np.bincount(parts, minlength=len(members))
        large = sizes[parts] > largest
        if not large.any():
            break
        kept = places[(links.scores >= bar) & large[places].all(axis=1)]
        parts = np.where(large, label_components(len(members), kept), parts)
        cut[large] = bar
    return members[parts], cut


def measure(parts: np.ndarray) -> tuple[int, int]:
    """Return the number of parts and the size of the largest."""
    sizes = np.unique(parts, return_counts=True)[1]
    return len(sizes), int(sizes.max())


def score_with(representative: np.ndarray, images: Looks, bench: Workbench) -> np.ndarray:
    """Return how alike each image and its representative are, float32 [N]; 1 for an image that stands for itself."""
    others = np.flatnonzero(representative != np.arange(len(representative)))
    pairs = np.stack([others, representative[others]], axis=1)
    scores = np.ones(len(representative), dtype=np.float32)
    pieces = [pairs[start : start + PIECE] for start in range(0, len(pairs), PIECE)]
    rows = [images._replace(table=images.table[piece.ravel()]) for piece in pieces]
    found = bench.executor.map(score_piece, rows)
    scores[others] = np.concatenate([np.empty(0, dtype=np.float32), *found])
    return scores


def score_piece(images: Looks) -> np.ndarray:
    """Score images two by two, as they stand in the table."""
    return score_pairs(np.arange(len(images.table)).reshape(-1, 2), images)
