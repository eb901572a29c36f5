import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lvd_evaluate.classifiers.few_shot import draw_shots
from lvd_evaluate.classifiers.heads import split_off
from lvd_evaluate.config import FewShotConfig, LogisticConfig
from lvd_evaluate.contracts import Features
from lvd_evaluate.errors import InputError
from lvd_evaluate.probes.logistic import (
    choose_cost,
    costs_of,
    evaluate_few_shot_logistic,
    evaluate_logistic,
    grid_name,
)

CONFIG = LogisticConfig(num_c=12)


def _features(count: int, seed: int, kind: str = "clusters", classes: int = 4, noise: float = 2.0) -> Features:
    """Raw class tokens of four layers; only the last says anything."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    values = noise * generator.normal(size=(count, 4, 10)) * np.linspace(0.2, 2, 10)
    if kind == "clusters":
        values[:, 3] += 3 + 2 * np.random.default_rng(0).normal(size=(classes, 10))[labels]
    return Features(torch.from_numpy(values).half(), None, torch.from_numpy(labels), 1.0, 1.0)


def _oracle(train: Features, test: Features, config: LogisticConfig) -> tuple[float, np.ndarray]:
    """Cold scikit-learn fits: C chosen on the balanced slice, the smallest of the best; predictions after a refit."""
    columns, labels = train.cls[:, -1].double().numpy(), train.labels.numpy()
    held_out, rest = (rows.numpy() for rows in split_off(labels, config.holdout, 0))
    scores = [
        LogisticRegression(C=cost, tol=1e-10, max_iter=5000)
        .fit(columns[rest], labels[rest])
        .score(columns[held_out], labels[held_out])
        for cost in costs_of(config)
    ]
    cost = costs_of(config)[int(np.argmax(scores))]
    chosen = LogisticRegression(C=cost, tol=1e-10, max_iter=5000).fit(columns, labels)
    return cost, chosen.predict(test.cls[:, -1].double().numpy())


@pytest.mark.parametrize(("kind", "classes"), [("clusters", 4), ("clusters", 2), ("random", 3)])
@pytest.mark.parametrize("seed", [0, 7])
def test_c_and_predictions_equal_scikit_learns_cold_fits(colour_encoder, kind, classes, seed):
    train, test = _features(300, seed, kind, classes), _features(200, seed + 1, kind, classes)
    (outcome,) = evaluate_logistic(train, test, classes, colour_encoder, CONFIG, "clean", 0)
    cost, predictions = _oracle(train, test, CONFIG)
    assert outcome.setting["C"] == pytest.approx(cost, rel=1e-5)
    assert np.array_equal(outcome.predictions, predictions)


def test_the_grid_is_the_released_one_and_the_row_says_what_was_done(colour_encoder):
    assert np.allclose(np.log10(costs_of(LogisticConfig())), np.linspace(-6, 5, 45))
    (outcome,) = evaluate_logistic(_features(80, 1), _features(9, 2), 4, colour_encoder, LogisticConfig(), "clean", 0)
    assert outcome.procedure == "logistic-45-clean-resize18-crop16"
    assert outcome.feature == "mean colour"
    assert outcome.notes["chosen_on"] == "8 held-out train images"
    assert outcome.notes["excess"] < 1e-10
    assert grid_name(LogisticConfig(min_log10_c=-2, holdout=0.2)) == "45from-2to5-holdout0.2"


@pytest.mark.parametrize("protocol", ["clean", "dinov2"])
def test_no_choice_sees_test(colour_encoder, protocol):
    train, test = _features(150, 1), _features(60, 2)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(3))
    others = [dataclasses.replace(test, labels=labels) for labels in (test.labels[order], 0 * test.labels - 1)]
    expected, *found = (
        evaluate_logistic(train, part, 4, colour_encoder, CONFIG, protocol, 0)[0] for part in (test, *others)
    )
    for outcome in found:
        assert (outcome.setting, outcome.notes) == (expected.setting, expected.notes)
        assert np.array_equal(outcome.predictions, expected.predictions)


def test_the_released_slice_is_not_balanced_and_the_row_says_so(colour_encoder):
    train = _features(150, 1)
    (outcome,) = evaluate_logistic(train, _features(20, 2), 4, colour_encoder, CONFIG, "dinov2", 0)
    assert outcome.notes["chosen_on"] == "15 held-out train images, unbalanced"
    assert outcome.procedure == "logistic-12-dinov2-resize18-crop16"


def test_the_smallest_of_equal_c_is_taken_and_the_path_ends_where_nothing_can_be_better():
    train = _features(100, 1, noise=0.05)
    rows = torch.arange(100)
    cost, share, _ = choose_cost(train.cls[:, -1], train.labels, [(rows, rows)], 4, CONFIG)
    assert share == 1
    smaller = [value for value in costs_of(CONFIG) if value < cost]
    for value in smaller:
        fit = LogisticRegression(C=value, tol=1e-10).fit(train.cls[:, -1].double().numpy(), train.labels.numpy())
        assert fit.score(train.cls[:, -1].double().numpy(), train.labels.numpy()) < 1


def test_one_train_image_cannot_be_held_out(colour_encoder):
    with pytest.raises(InputError, match="1 train image leaves none"):
        evaluate_logistic(_features(1, 1), _features(5, 2), 4, colour_encoder, CONFIG, "clean", 0)


def test_a_fit_that_is_cut_short_is_told(colour_encoder, caplog):
    config = LogisticConfig(num_c=2, min_log10_c=2, max_iterations=1)
    evaluate_logistic(_features(100, 1), _features(5, 2), 4, colour_encoder, config, "clean", 0)
    assert "is not solved after 1 iterations" in caplog.text


@pytest.mark.parametrize(
    ("key", "value"), [("num_c", 0), ("max_log10_c", -7), ("tolerance", 0), ("holdout", 1), ("max_iterations", 0)]
)
def test_settings_that_cannot_be_are_refused(key, value):
    with pytest.raises(InputError, match=f"logistic.{key}"):
        LogisticConfig(**{key: value})


def test_few_shots_learn_from_the_drawn_images_alone(colour_encoder):
    train, test = _features(200, 1, noise=1), _features(100, 2, noise=1)
    shots = FewShotConfig(per_class=(1, 5), tries=2)
    outcomes = evaluate_few_shot_logistic(train, test, 4, colour_encoder, CONFIG, shots, 0)
    assert [outcome.setting for outcome in outcomes] == [{"per_class": 1}, {"per_class": 5}]
    drawn = torch.cat([draw_shots(train.labels.numpy(), 5, 0, attempt) for attempt in range(2)]).unique()
    spoiled = torch.full_like(train.cls, 1000)
    spoiled[drawn] = train.cls[drawn]
    assert len(drawn) < len(train.labels)
    others = dataclasses.replace(train, cls=spoiled)
    for outcome, again in zip(
        outcomes, evaluate_few_shot_logistic(others, test, 4, colour_encoder, CONFIG, shots, 0), strict=True
    ):
        assert np.array_equal(outcome.measurements[0].numerators, again.measurements[0].numerators)
    one, five = (outcome.measurements[0].numerators.mean() for outcome in outcomes)
    assert 0.4 < one < five
    assert outcomes[0].notes["chosen_on"] == "nothing: C fixed"
    assert len(outcomes[1].notes["C_of_tries"]) == 2


def test_each_try_equals_a_fit_to_its_shots(colour_encoder):
    train, test = _features(120, 1), _features(80, 2)
    shots = FewShotConfig(per_class=(1,), tries=3)
    (outcome,) = evaluate_few_shot_logistic(train, test, 4, colour_encoder, CONFIG, shots, 5)
    right = []
    for attempt in range(3):
        rows = draw_shots(train.labels.numpy(), 1, 5, attempt)
        oracle = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000)
        oracle.fit(train.cls[rows, -1].double().numpy(), train.labels[rows].numpy())
        right.append(oracle.predict(test.cls[:, -1].double().numpy()) == test.labels.numpy())
    assert np.allclose(outcome.measurements[0].numerators[:, 0], np.mean(right, axis=0))
    assert outcome.notes["top1_of_tries"] == pytest.approx([part.mean() for part in right])
