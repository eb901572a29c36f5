"""Instance retrieval: the database ranked by cosine similarity to each query, nothing learned (DINOv2, 7.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from lvd_evaluate.config import RetrievalConfig
from lvd_evaluate.contracts import Encoder, Features, Measurement, Outcome
from lvd_evaluate.encoders import preprocessing
from lvd_evaluate.progress import track
from lvd_evaluate.tasks.retrieval import Judgement, RetrievalTask

CHUNK = 2**25  # similarities held at once, 128 MB
# What counts as right and what is taken out of the ranking (Radenovic et al., Revisiting Oxford and Paris, 2018)
SETUPS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("easy", "junk")),
    "easy": (("easy",), ("hard", "junk")),
}


def evaluate_retrieval(
    queries: Features, database: Features, task: RetrievalTask, encoder: Encoder, config: RetrievalConfig
) -> list[Outcome]:
    """One outcome whose units are queries; a query with nothing to find does not count.

    By lists: `map` (the medium set-up), `map_hard` and `map_easy` with the revisited protocol's trapezoid, `map_plain`
    the mean of precisions under medium. By label: plain `map`, `map_trapezoid`, and `gap`, the global average precision
    of naming the nearest image's label: all queries in the order of their similarity, those without a match in the
    database as distractors. Both: `recall_K`, the share of queries with a right image among the first K.
    """
    setups = {"": SETUPS["easy"]} if task.by_label else SETUPS
    scores: dict[str, list[float]] = {}
    closeness: list[float] = []  # of each query's first image
    answered: list[bool] = []  # whether that image is right
    with track("retrieval", len(task.queries), "queries") as advance:
        for query, order, similarity in _rankings(queries, database, encoder):
            judgement = task.judge(query)
            for name, (right, out) in setups.items():
                ranks = ranks_of_right(order, judgement, right, out)
                for metric, value in _query_scores(name, ranks, config.recall).items():
                    scores.setdefault(metric, []).append(value)
            if task.by_label:
                first = next(row for row in order[:2] if row not in judgement.junk)  # junk is the query itself at most
                closeness.append(float(similarity[first]))
                answered.append(bool(first in judgement.easy))
            advance(1)
    measurements = [
        _mean_over_queries(metric, values) for metric, values in scores.items() if not np.isnan(values).all()
    ]
    if task.by_label:
        findable = ~np.isnan(np.asarray(scores["map"]))
        measurements.append(global_average_precision(np.array(closeness), np.array(answered), findable))
    crop = "querybox" if task.cropped else "wholequery"
    size = f"resize{encoder.resize_size}-crop{encoder.image_size}"
    return [
        Outcome(
            setting={"relevance": "label" if task.by_label else "lists"},
            headline=True,
            procedure=f"retrieval-cosine-{size}-{crop}",
            measurements=measurements,
            feature=encoder.feature + ", L2-normalised",
            preprocessing=f"queries cut to their boxes; {preprocessing(encoder)}" if task.cropped else "",
            notes={
                "database": len(task.database),
                "leave_one_out": task.leave_one_out,
                "queries_without_match": int(np.isnan(scores["map"]).sum()),
            },
        )
    ]


def _rankings(queries: Features, database: Features, encoder: Encoder) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Per query its row, the rows of the database best first [N], and the similarities by row [N]; ties by row."""
    gallery = _unit(database.cls[:, -1]).to(encoder.device)  # [N, D]
    start = 0
    for chunk in _unit(queries.cls[:, -1]).split(max(CHUNK // len(gallery), 1)):
        similarity = chunk.to(encoder.device) @ gallery.T  # [q, N], float32: half precision makes ties
        order = similarity.argsort(dim=1, descending=True, stable=True)
        for place, (rows, values) in enumerate(zip(order.cpu().numpy(), similarity.cpu().numpy(), strict=True)):
            yield start + place, rows, values
        start += len(chunk)


def ranks_of_right(order: np.ndarray, judgement: Judgement, right: Sequence[str], out: Sequence[str]) -> np.ndarray:
    """Places from 0, ascending, of the right images in the ranking `order` [N] once `out` has been taken out of it."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    ranks = np.sort(place[np.concatenate([getattr(judgement, name) for name in right])])
    removed = np.sort(place[np.concatenate([getattr(judgement, name) for name in out])])
    return ranks - np.searchsorted(removed, ranks)


def average_precision(ranks: np.ndarray) -> float:
    """Mean over the right images of the precision at each; `ranks` from 0, ascending, all of them."""
    return float(((np.arange(len(ranks)) + 1) / (ranks + 1)).mean())


def trapezoid_precision(ranks: np.ndarray) -> float:
    """Area under precision over recall as the revisited protocol draws it: trapezoids between the right images."""
    found = np.arange(len(ranks))
    before = np.where(ranks == 0, 1.0, found / np.maximum(ranks, 1))  # just before each right image
    after = (found + 1) / (ranks + 1)
    return float(((before + after) / 2).mean())


def _query_scores(setup: str, ranks: np.ndarray, recall: Sequence[int]) -> dict[str, float]:
    """Metrics of one query under one set-up, NaN where there is nothing to find."""
    nothing = not len(ranks)
    plain = float("nan") if nothing else average_precision(ranks)
    trapezoid = float("nan") if nothing else trapezoid_precision(ranks)
    if setup in ("hard", "easy"):
        return {f"map_{setup}": trapezoid}
    scores = {"map": trapezoid, "map_plain": plain} if setup else {"map": plain, "map_trapezoid": trapezoid}
    return scores | {f"recall_{k}": float("nan") if nothing else float(ranks[0] < k) for k in recall}


def _mean_over_queries(metric: str, values: Sequence[float]) -> Measurement:
    column = np.asarray(values, dtype=np.float64)[:, None]  # [N, 1]
    return Measurement(metric, np.nan_to_num(column), (~np.isnan(column)).astype(np.float64))


def global_average_precision(similarity: np.ndarray, right: np.ndarray, findable: np.ndarray) -> Measurement:
    """`gap`: precision at each rightly answered query, all queries sorted by similarity, over those with a match.

    Its interval resamples what each query adds and leaves the order of the others as it is.

    Args:
        similarity: float [N], of each query's first image.
        right: bool [N], whether that image has the query's label.
        findable: bool [N], whether the database holds the label at all.
    """
    order = np.argsort(-similarity, kind="stable")
    precision = np.cumsum(right[order]) / (np.arange(len(order)) + 1)
    added = np.zeros(len(order))
    added[order] = precision * right[order]
    return Measurement("gap", added[:, None], findable.astype(np.float64)[:, None])


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=1)  # [N, D]
