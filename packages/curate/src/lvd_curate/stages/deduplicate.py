"""Deduplicate: link copies, take connected components, keep one image of each (paper A.3)."""

import numpy as np
import polars as pl

from lvd_curate.components import label_components
from lvd_curate.config import DeduplicateConfig
from lvd_curate.copies import CopyBars, find_copies, score_pairs
from lvd_curate.neighbours import to_matrix

VERSION = 1


def deduplicate(images: pl.DataFrame, config: DeduplicateConfig) -> pl.DataFrame:
    """Return (id, component, representative, score) per image: its component, who stands for it and how alike they are.

    The score is a cosine with a copy-detection embedding, else the correlation of the thumbnails.

    `images` has one row per distinct id: id, is_seed, width, height, bytes, hash, thumbnail and, when a copy-detection
    encoder is used, embedding. Seeds represent themselves and come first; then most pixels, largest file, smallest id
    (the paper does not say which member it keeps).
    """
    pixels = pl.col("width").cast(pl.Int64) * pl.col("height")
    ranked = images.sort(~pl.col("is_seed"), -pixels, -pl.col("bytes"), "id")
    bars = CopyBars(config.hash_distance, config.hash_correlation, config.neighbours + 1, config.threshold)
    pairs = find_copies(ranked, ranked, bars).pairs
    component = label_components(len(ranked), pairs)  # the lowest row of each: its best-ranked image
    rows = np.arange(len(ranked))
    representative = np.where(ranked["is_seed"].to_numpy(), rows, component)
    return ranked.select("id").with_columns(
        component=pl.Series(component),
        representative=ranked["id"].gather(representative),
        score=pl.Series(score_with_representative(ranked, np.stack([rows, representative], axis=1)), dtype=pl.Float32),
    )


def score_with_representative(images: pl.DataFrame, pairs: np.ndarray) -> np.ndarray:
    """Return how alike each image and its representative are, float32 [N]."""
    if "embedding" not in images.columns:
        return score_pairs(pairs, images, images)
    vectors = to_matrix(images["embedding"].to_list())
    return (vectors[pairs[:, 0]] * vectors[pairs[:, 1]]).sum(axis=1)
