"""Calibrate: which threshold tells copies from strangers among the user's own images.

Thresholds of papers belong to their photographs: a pool of product shots or of medical scans has other strangers. So
copies are planted in a sample of the pool, in the eleven ways of `planted`, and compared with all its originals.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import polars as pl

from lvd_curate.columns import SCREENED
from lvd_curate.config import DeduplicateConfig, ScreenConfig
from lvd_curate.copy_detection.copies import CopyBars, Looks, find_copies_between
from lvd_curate.copy_detection.planted import EDITS, plant_copy
from lvd_curate.engine.artifacts import Workbench, fingerprint_rows
from lvd_curate.errors import InputError
from lvd_curate.inputs.embeddings_file import PREFIX
from lvd_curate.inputs.images import decode_rgb
from lvd_curate.stages.screen import screen_file

PRECISION = 0.99  # wanted of a recommended threshold
SPARED_RECALL = 0.01  # given up for distance to strangers
PIECE = 16  # originals planted and looked at together
COSINES = np.arange(0.30, 0.96, 0.01).round(2)
LIKENESSES = np.arange(0.70, 1.0, 0.01).round(2)
SUSPECTS = 50  # likest pairs of different originals that are returned for a look
EVERY = "all"  # the row over all edits


class Calibration(NamedTuple):
    """What a threshold is worth on these images."""

    table: pl.DataFrame  # threshold, edit (one of EDITS or "all"), recall, precision, wrong_per_million (of pairs)
    recommended: float | None  # see `recommend`
    suspects: pl.DataFrame  # first, second (places in the sample), score: real copies in the pool look like mistakes


def calibrate(
    sample: Sequence[bytes],
    encoder: str | None,
    config: DeduplicateConfig,
    bench: Workbench,
    *,
    precision: str = "fp32",
    device: str = "cpu",
    random_seed: int = 0,
) -> Calibration:
    """Plant copies of sampled images (bytes that passed screening), and measure precision and recall per threshold.

    With an encoder the threshold is `deduplicate.threshold`, a cosine; without one, `deduplicate.hash_correlation` at
    the given `hash_distance`. A pair (copy, another's original) is a mistake; its share among millions of pairs tells
    what a larger pool would meet, for a sample's precision is that of a pool of its size.
    """
    if len(sample) < 2:
        raise InputError(f"calibration needs at least 2 usable images, and the sample has {len(sample)}")
    if encoder is not None and encoder.startswith(PREFIX):
        raise InputError(f"deduplicate.encoder={encoder} has no vectors of copies planted now; give a model")
    starts = range(0, len(sample), PIECE)
    pieces = [(start, sample[start : start + PIECE]) for start in starts]
    look = partial(look_at_piece, encoder=encoder, precision=precision, device=device, random_seed=random_seed)
    looks = pl.concat(bench.executor.map(look, pieces))
    if encoder is None:
        scores, thresholds = score_hashes(looks, config, bench), LIKENESSES
    else:
        scores, thresholds = score_vectors(looks), COSINES
    pairs = scores.with_columns(right=pl.col("number") == pl.col("original"))
    table = pl.DataFrame(list(measure(pairs, thresholds, len(sample))), orient="row", schema=list(COLUMNS.items()))
    return Calibration(table, recommend(table), list_suspects(pairs))


COLUMNS = {
    "threshold": pl.Float64,
    "edit": pl.String,
    "recall": pl.Float64,
    "precision": pl.Float64,
    "wrong_per_million": pl.Float64,
}


def look_at_piece(
    piece: tuple[int, Sequence[bytes]], encoder: str | None, precision: str, device: str, random_seed: int
) -> pl.DataFrame:
    """Plant copies of some images; return (number, edit, SCREENED, vector), the original with a null edit first."""
    start, files = piece
    rows, data = [], []
    for number, original in enumerate(files, start):
        image = decode_rgb(original)
        draws = [np.random.default_rng([random_seed, number, place]) for place in range(len(EDITS))]
        copies = [plant_copy(image, edit, draw) for edit, draw in zip(EDITS, draws, strict=True)]
        rows += [(number, edit) for edit in (None, *EDITS)]
        data += [original, *copies]
    knobs = ScreenConfig(min_side=1, max_aspect=1e9, truncated="keep")  # a crop must not fall out of the count
    screened = pl.DataFrame([screen_file(one, knobs) for one in data], schema=SCREENED, orient="row")
    named = pl.DataFrame(rows, schema={"number": pl.Int64, "edit": pl.String}, orient="row")
    vectors: list[bytes | None] = [None] * len(data)
    if encoder is not None:
        vectors = [row.tobytes() for row in embed_files(data, encoder, precision, device)]
    return pl.concat([named, screened], how="horizontal").with_columns(vector=pl.Series(vectors, dtype=pl.Binary))


def embed_files(files: Sequence[bytes], encoder: str, precision: str, device: str) -> np.ndarray:
    """Return unit vectors float16 [N, D]."""
    import torch

    from lvd_curate.models.encoders import load_encoder

    torch.set_num_threads(1)
    model = load_encoder(encoder, device)
    batches = [files[start : start + 32] for start in range(0, len(files), 32)]
    return np.concatenate([model.embed([decode_rgb(data) for data in batch], precision) for batch in batches])


def score_vectors(looks: pl.DataFrame) -> pl.DataFrame:
    """Return (number, edit, original, score): every copy with every original, where the cosine may matter."""
    originals, copies = looks.filter(pl.col("edit").is_null()), looks.filter(pl.col("edit").is_not_null())
    theirs = stack_vectors(originals)
    found = []
    for start in range(0, len(copies), 1024):
        some = copies[start : start + 1024]
        cosines = np.nan_to_num(stack_vectors(some) @ theirs.T, nan=-1.0)  # [1024, N]
        rows, columns = np.nonzero(cosines >= COSINES[0])
        near = some.select("number", "edit")[rows]
        found.append(near.with_columns(original=originals["number"].gather(columns), score=cosines[rows, columns]))
    return pl.concat(found)


def stack_vectors(looks: pl.DataFrame) -> np.ndarray:
    """Return the vectors as float32 [N, D]."""
    return np.frombuffer(b"".join(looks["vector"]), dtype="<f2").reshape(len(looks), -1).astype(np.float32)


def score_hashes(looks: pl.DataFrame, config: DeduplicateConfig, bench: Workbench) -> pl.DataFrame:
    """Return (number, edit, original, score) of the pairs that hashes and thumbnails propose."""
    bench = bench._replace(folder=bench.folder / fingerprint_rows(looks.select("id"))[:16])  # of these images alone
    bench.folder.mkdir(parents=True, exist_ok=True)
    thumbnails = bench.folder / "thumbnail.npy"
    np.save(thumbnails, np.frombuffer(b"".join(looks["thumbnail"]), dtype=np.uint8).reshape(len(looks), -1))
    table = looks.drop("thumbnail", "vector").with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    copies, originals = table.filter(pl.col("edit").is_not_null()), table.filter(pl.col("edit").is_null())
    bars = CopyBars(config.hash_distance, float(LIKENESSES[0]), config.neighbours, config.threshold)
    found = []
    for pairs, scores in find_copies_between(
        Looks(copies, thumbnails, None), Looks(originals, thumbnails, None), bars, bench
    ):
        near = copies.select("number", "edit")[pairs[:, 0]]
        found.append(near.with_columns(original=originals["number"].gather(pairs[:, 1]), score=pl.Series(scores)))
    keys = ["number", "edit", "original"]
    return pl.concat(found).group_by(keys).agg(pl.col("score").max()).sort(keys)


def measure(pairs: pl.DataFrame, thresholds: np.ndarray, originals: int) -> Iterator[tuple[object, ...]]:
    """Yield the rows of the table: for each threshold every edit, then all."""
    for edit in (*EDITS, EVERY):
        mine = pairs if edit == EVERY else pairs.filter(pl.col("edit") == edit)
        right, wrong = (np.sort(mine.filter(flag)["score"].to_numpy()) for flag in ("right", ~pl.col("right")))
        copies = originals * (len(EDITS) if edit == EVERY else 1)
        for bar in thresholds:
            hits, misses = (len(scores) - int(np.searchsorted(scores, np.float32(bar))) for scores in (right, wrong))
            precision = hits / (hits + misses) if hits + misses else None
            yield float(bar), edit, hits / copies, precision, misses * 1e6 / (copies * (originals - 1))


def recommend(table: pl.DataFrame) -> float | None:
    """Return the highest threshold with nearly the best recall of all whose precision over all edits is at least 0.99.

    A larger pool meets strangers that a sample does not hold, so what recall does not need is left as distance to them.
    """
    falling = table.filter(pl.col("edit") == EVERY).drop_nulls("precision").sort("threshold", descending=True)
    precise = falling.filter((pl.col("precision") >= PRECISION).cum_min())
    if precise.is_empty():
        return None
    enough = precise.filter(pl.col("recall") >= precise["recall"].max() - SPARED_RECALL)  # type: ignore[operator]
    return float(enough["threshold"][0])


def list_suspects(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return the likest pairs of different originals (first, second, score)."""
    return (
        pairs.filter(~pl.col("right"))
        .group_by(first=pl.min_horizontal("number", "original"), second=pl.max_horizontal("number", "original"))
        .agg(pl.col("score").max())
        .sort(-pl.col("score"), "first", "second")
        .head(SUSPECTS)
    )
