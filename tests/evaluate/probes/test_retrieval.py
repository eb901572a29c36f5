import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from lvd_evaluate.config import RetrievalConfig
from lvd_evaluate.contracts import Features, Split
from lvd_evaluate.probes.retrieval import (
    average_precision,
    evaluate_retrieval,
    global_average_precision,
    ranks_of_right,
    trapezoid_precision,
)
from lvd_evaluate.scoring.statistics import measurement_value
from lvd_evaluate.tasks.retrieval import Judgement, RetrievalTask


def _features(vectors, labels=None):
    cls = torch.as_tensor(np.asarray(vectors, dtype=np.float32)).half()[:, None]  # [N, 1, D]
    labels = torch.zeros(len(cls), dtype=torch.int64) if labels is None else torch.as_tensor(labels)
    return Features(cls=cls, patch_mean=None, labels=labels, seconds=1.0, images_per_second=1.0)


def _split(name, count, labels=None):
    labels = np.zeros(count, dtype=np.int64) if labels is None else np.asarray(labels)
    return Split(name, lambda start, stop: [], labels, np.array([f"{name}{i}" for i in range(count)]), name)


def _rows(*numbers):
    return np.array(numbers, dtype=np.int64)


def _values(outcome):
    return {found.metric: measurement_value(found) for found in outcome.measurements}


def _circle(angles):
    radians = np.deg2rad(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_precisions_by_hand():
    """Right images first and third: precisions 1 and 2/3; trapezoids (1 + 1) / 2 and (1/2 + 2/3) / 2."""
    ranks = _rows(0, 2)
    assert average_precision(ranks) == pytest.approx((1 + 2 / 3) / 2)
    assert trapezoid_precision(ranks) == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)
    assert trapezoid_precision(_rows(1)) == pytest.approx((0 + 1 / 2) / 2)


@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
def test_plain_average_precision_is_scikit_learns(relevant):
    scores = -np.arange(len(relevant))
    assert average_precision(np.flatnonzero(relevant)) == pytest.approx(average_precision_score(relevant, scores))


@given(st.lists(st.sampled_from("ehjn"), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_junk_leaves_the_ranking_as_if_it_had_never_been_there(kinds, random):
    order = list(range(len(kinds)))
    random.shuffle(order)
    kind = np.array(kinds)
    judgement = Judgement(*(np.flatnonzero(kind == letter) for letter in "ehj"))
    kept = [row for row in order if kinds[row] not in "ej"]
    expected = [place for place, row in enumerate(kept) if kinds[row] == "h"]
    assert ranks_of_right(np.array(order), judgement, ("hard",), ("easy", "junk")).tolist() == expected


def test_easy_medium_and_hard_of_a_ranking_written_out(colour_encoder):
    """Ranking: junk 0, easy 1, wrong 2, hard 3, wrong 4.

    Medium, junk out: right at 0 and 2. Hard, easy out, too: right at 1. Easy, hard out: right at 0.
    """
    task = RetrievalTask(
        "t",
        False,
        _split("queries", 2),
        _split("database", 5),
        judgements=[Judgement(_rows(1), _rows(3), _rows(0)), Judgement(_rows(), _rows(), _rows(2))],
    )
    (outcome,) = evaluate_retrieval(
        _features(_circle([0, 0])), _features(3 * _circle([1, 10, 20, 30, 40])), task, colour_encoder, RetrievalConfig()
    )
    values = _values(outcome)
    assert next(iter(values)) == "map"
    assert values["map"] == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)
    assert values["map_plain"] == pytest.approx((1 + 2 / 3) / 2)
    assert values["map_hard"] == pytest.approx((0 + 1 / 2) / 2)
    assert values["map_easy"] == 1
    assert values["recall_1"] == 1
    assert outcome.notes["queries_without_match"] == 1  # the second query counts nowhere
    assert outcome.measurements[0].denominators[:, 0].tolist() == [1, 0]
    assert outcome.procedure == "retrieval-cosine-resize18-crop16-wholequery"


def test_labels_equal_scikit_learn_on_random_features(colour_encoder):
    generator = np.random.default_rng(0)
    queries, database = generator.normal(size=(20, 8)), generator.normal(size=(60, 8))
    labels, theirs = generator.integers(0, 4, 20), generator.integers(0, 4, 60)
    task = RetrievalTask("t", True, _split("queries", 20, labels), _split("database", 60, theirs))
    ours, gallery = _features(queries, labels), _features(database, theirs)
    (outcome,) = evaluate_retrieval(ours, gallery, task, colour_encoder, RetrievalConfig(recall=(1, 5)))
    unit = [f.cls[:, 0].float().numpy() for f in (ours, gallery)]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in unit]
    similarity = unit[0] @ unit[1].T
    right = labels[:, None] == theirs
    oracle = np.mean([average_precision_score(r, s) for r, s in zip(right, similarity, strict=True)])
    best = np.take_along_axis(right, np.argsort(-similarity, axis=1), axis=1)
    values = _values(outcome)
    assert values["map"] == pytest.approx(oracle, abs=1e-6)
    assert values["recall_1"] == pytest.approx(best[:, 0].mean())
    assert values["recall_5"] == pytest.approx(best[:, :5].any(axis=1).mean())
    gap = average_precision_score(best[:, 0], similarity.max(axis=1)) * best[:, 0].mean()  # over all queries
    assert values["gap"] == pytest.approx(gap, abs=1e-6)


def test_leaving_one_out_never_finds_the_query_itself(colour_encoder):
    labels = np.array([0, 1, 0, 1, 2])
    split = _split("queries", 5, labels)
    task = RetrievalTask("t", True, split, split, leave_one_out=True)
    features = _features(_circle([0, 0, 50, 52, 90]), labels)  # twins of unlike labels, an image without a like
    (outcome,) = evaluate_retrieval(features, features, task, colour_encoder, RetrievalConfig())
    assert _values(outcome)["recall_1"] == 0
    assert _values(outcome)["gap"] == 0
    assert outcome.notes["queries_without_match"] == 1
    assert outcome.notes["leave_one_out"] is True


def test_global_average_precision_counts_distractors_against_the_ranking():
    """Sorted: right, distractor named, right. 1/1 + 2/3 over two queries that have a match."""
    found = global_average_precision(
        np.array([0.9, 0.5, 0.7]), np.array([True, True, False]), np.array([True, True, False])
    )
    assert measurement_value(found) == pytest.approx((1 + 2 / 3) / 2)
