import dataclasses

import numpy as np
import pytest

from lvd_evaluate.config import KnnConfig, LinearConfig, RobustnessConfig
from lvd_evaluate.contracts import Split
from lvd_evaluate.probes.robustness import evaluate_robustness, measure_set
from lvd_evaluate.scoring.statistics import measurement_value
from lvd_evaluate.tasks.corruptions import ALEXNET_ERRORS
from lvd_evaluate.tasks.robustness import Corruptions, RobustnessSet

LINEAR = LinearConfig(min_steps=60, batch_size=32)
KNN = KnnConfig(headline=10)


def _set(accepted, classes=None, corruptions=None) -> RobustnessSet:
    accepted = np.array(accepted)
    labels = accepted[:, 0]
    split = Split("x", lambda start, stop: [], labels, labels.astype(str), "x")
    return RobustnessSet("x", split, accepted, np.arange(4) if classes is None else np.array(classes), corruptions)


def _evaluate(blobs, encoder, found, features, heads=("linear", "knn"), noise=1.0):
    base = blobs(200, 1, noise=noise), blobs(100, 2, noise=noise)
    config = RobustnessConfig(heads=heads)
    return evaluate_robustness(*base, [(found, features)], 4, encoder, config, LINEAR, KNN, "clean", 0)


def test_both_heads_answer_with_the_allowed_classes_alone(blobs, colour_encoder):
    features = blobs(200, 3, noise=2)
    keep = features.labels < 2
    features = dataclasses.replace(
        features, cls=features.cls[keep], patch_mean=features.patch_mean[keep], labels=features.labels[keep]
    )
    labels = features.labels.numpy()[:, None]
    free = _evaluate(blobs, colour_encoder, _set(labels), features)
    restricted = _evaluate(blobs, colour_encoder, _set(labels, classes=[0, 1]), features)
    for all_classes, two_classes, head in zip(free, restricted, ("linear", "knn"), strict=True):
        assert two_classes.setting == {"head": head, "set": "x"}
        assert two_classes.notes["classes"] == 2
        assert two_classes.notes["top1_on_base"] == all_classes.notes["top1_on_base"] > 0.6
        values = [measurement_value(outcome.measurements[0]) for outcome in (all_classes, two_classes)]
        assert 0.5 < values[0] < values[1]
    assert restricted[0].procedure == "linear-52-cached-clean-resize18-crop16"
    assert restricted[1].procedure == "knn-cosine-k10-t0.07-resize18-crop16"


def test_restricted_neighbours_are_those_of_the_allowed_classes(blobs, colour_encoder):
    """With one allowed class there is one answer, however near the others are."""
    features = blobs(50, 3)
    (outcome,) = _evaluate(blobs, colour_encoder, _set(np.full((50, 1), 3), classes=[3]), features, ("knn",))
    assert measurement_value(outcome.measurements[0]) == 1


def test_any_of_several_labels_is_right():
    found = _set([[0, 1], [2, -1], [3, 1]])
    measured, notes = measure_set(found, np.array([1, 1, 3]), 4)
    assert (measured.metric, measured.higher_is_better) == ("top1", True)
    assert measured.numerators[:, 0].tolist() == [1, 0, 1]
    assert measurement_value(measured) == pytest.approx(2 / 3)
    assert notes["images"] == 3


def test_no_set_has_a_say_in_the_head(blobs, colour_encoder):
    features = blobs(100, 3)
    labels = features.labels.numpy()[:, None]
    first, second = (
        _evaluate(blobs, colour_encoder, _set(answers), features, ("linear",))[0] for answers in (labels, labels[::-1])
    )
    chosen = [{key: outcome.notes[key] for key in ("chosen_on", "learning_rate")} for outcome in (first, second)]
    assert chosen[0] == chosen[1]
    assert first.feature == second.feature


def _corruptions(names, severities, images, generator):
    cells = [(c, s, u) for c in range(len(names)) for s in range(1, severities + 1) for u in range(images)]
    corruption, severity, units = (np.array(part) for part in zip(*cells, strict=True))
    found = _set(np.zeros((len(cells), 1), dtype=int), None, Corruptions(tuple(names), corruption, severity, units))
    predictions = (generator.random(len(cells)) < 0.1 + 0.1 * severity).astype(int)
    return found, predictions, predictions.reshape(len(names), severities, images).astype(float)


def test_the_corruption_error_is_the_mean_over_corruptions_of_the_mean_over_severities():
    found, predictions, wrong = _corruptions(["noise", "blur"], 5, 7, np.random.default_rng(0))
    measured, notes = measure_set(found, predictions, 4)
    assert (measured.metric, measured.higher_is_better, measured.numerators.shape) == (
        "corruption_error",
        False,
        (7, 2),
    )
    assert measurement_value(measured) == pytest.approx(wrong.mean(axis=2).mean(axis=1).mean())
    assert notes["errors"] == pytest.approx({"noise": wrong[0].mean(), "blur": wrong[1].mean()})
    kept = (found.corruptions.severity != 5) | (found.corruptions.unit < 3)  # fewer images of the last severity
    corruptions = Corruptions(
        ("noise", "blur"), *(getattr(found.corruptions, key)[kept] for key in ("corruption", "severity", "unit"))
    )
    uneven = dataclasses.replace(found, accepted=found.accepted[kept], corruptions=corruptions)
    measured, _ = measure_set(uneven, predictions[kept], 4)
    means = [[wrong[c, s, : 3 if s == 4 else 7].mean() for s in range(5)] for c in range(2)]
    assert measurement_value(measured) == pytest.approx(np.mean(means))


def test_only_imagenet_c_is_measured_against_alexnet():
    names = sorted(ALEXNET_ERRORS)
    found, predictions, wrong = _corruptions(names, 5, 4, np.random.default_rng(0))
    measured, _ = measure_set(found, predictions, 1000)
    assert measured.metric == "mce"
    ratios = [wrong[place].mean() / ALEXNET_ERRORS[name] for place, name in enumerate(names)]
    assert measurement_value(measured) == pytest.approx(np.mean(ratios))
    assert measure_set(found, predictions, 10)[0].metric == "corruption_error"
    for given in ((names[:14], 5), (names, 4)):  # a corruption or a severity is missing
        part, predictions, _ = _corruptions(*given, 4, np.random.default_rng(0))
        assert measure_set(part, predictions, 1000)[0].metric == "corruption_error"
