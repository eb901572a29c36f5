import dataclasses

import numpy as np
import pytest
import torch

from lvd_evaluate.config import LinearConfig
from lvd_evaluate.contracts import Features
from lvd_evaluate.errors import InputError
from lvd_evaluate.probes.linear import (
    FeatureSet,
    choose_head,
    evaluate_linear,
    feature_sets,
    num_steps,
    score_heads,
    train_heads,
)

CONFIG = LinearConfig(min_steps=60, batch_size=32)


def _blobs(count: int, seed: int, layers: int = 4, classes: int = 4, noise: float = 1.5) -> Features:
    centres = np.random.default_rng(0).normal(size=(classes, layers, 8))
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    cls = torch.from_numpy(centres[labels] + noise * generator.normal(size=(count, layers, 8)))
    return Features(cls.half(), cls[:, -1].half() * 0.5 + 0.1, torch.from_numpy(labels), 1.0, 1.0)


def test_the_grid_has_52_heads(colour_encoder):
    (outcome,) = evaluate_linear(_blobs(200, 1), _blobs(100, 2), 4, colour_encoder, CONFIG, "clean", 0)
    assert outcome.notes["heads"] == 52
    assert outcome.notes["chosen_on"] == "20 held-out train images"
    assert (outcome.predictions == _blobs(100, 2).labels.numpy()).mean() > 0.8


def test_inputs_are_class_tokens_of_the_last_blocks_and_the_mean_patch():
    features = _blobs(5, 1)
    rows = torch.arange(5)
    assert torch.equal(FeatureSet(1, False).read(features, rows), features.cls[:, 3].float())
    both = FeatureSet(4, True).read(features, rows)
    assert both.shape == (5, 4 * 8 + 8)
    assert torch.equal(both[:, :32], features.cls.flatten(1).float())
    assert torch.equal(both[:, 32:], features.patch_mean.float())


def test_only_the_inputs_that_exist_are_tried():
    deep, pooled = _blobs(5, 1), CONFIG
    assert len(feature_sets(deep, pooled)) == 4
    pixels = Features(deep.cls[:, :1], None, deep.labels, 1.0, 1.0)
    assert feature_sets(pixels, CONFIG) == [FeatureSet(1, False)]
    assert feature_sets(pixels, LinearConfig(layers=(4,))) == [FeatureSet(1, False)]


def test_52_stacked_heads_equal_52_separate_ones():
    train, rows = _blobs(120, 1), torch.arange(120)
    config = LinearConfig(min_steps=50, epochs=0, batch_size=32)
    for feature_set in feature_sets(train, config):
        together = train_heads(train, rows, feature_set, list(range(13)), 4, config, 0)
        for rate in range(13):
            alone = train_heads(train, rows, feature_set, [rate], 4, config, 0)
            assert torch.allclose(together.weights[rate], alone.weights[0], atol=1e-5)
            assert torch.allclose(together.biases[rate], alone.biases[0], atol=1e-5)


def test_the_clean_choice_never_sees_test(colour_encoder):
    train, test = _blobs(200, 1), _blobs(100, 2)
    shuffled = dataclasses.replace(
        test, labels=test.labels[torch.randperm(100, generator=torch.Generator().manual_seed(3))]
    )
    emptied = dataclasses.replace(test, labels=torch.full_like(test.labels, -1))
    outcomes = [
        evaluate_linear(train, part, 4, colour_encoder, CONFIG, "clean", 0)[0] for part in (test, shuffled, emptied)
    ]
    for outcome in outcomes[1:]:
        assert outcome.setting == outcomes[0].setting
        assert outcome.notes == outcomes[0].notes
        assert np.array_equal(outcome.predictions, outcomes[0].predictions)


def test_the_papers_choice_does_see_test_and_says_so(colour_encoder):
    train, test = _blobs(100, 1, noise=4), _blobs(60, 2, noise=4)
    (outcome,) = evaluate_linear(train, test, 4, colour_encoder, CONFIG, "dinov2", 0)
    assert outcome.notes["chosen_on"] == "the test images themselves"
    assert "-dinov2-" in outcome.procedure
    assert outcome.notes["accuracy_there"] == pytest.approx((outcome.predictions == test.labels.numpy()).mean())
    (clean,) = evaluate_linear(train, test, 4, colour_encoder, CONFIG, "clean", 0)
    assert outcome.notes["accuracy_there"] >= (clean.predictions == test.labels.numpy()).mean()


def test_the_best_head_on_the_judges_images_is_chosen():
    train, judge = _blobs(200, 1, noise=3), _blobs(80, 2, noise=3)
    rows, judge_rows = torch.arange(200), torch.arange(80)
    choice = choose_head(train, rows, judge, judge_rows, 4, CONFIG, 0)
    scores = [
        accuracy
        for feature_set in feature_sets(train, CONFIG)
        for accuracy in score_heads(
            train_heads(train, rows, feature_set, list(range(13)), 4, CONFIG, 0), feature_set, judge, judge_rows
        )[0]
    ]
    assert choice.accuracy == max(scores)


def test_a_diverged_head_is_never_chosen():
    train = _blobs(100, 1)
    wild = dataclasses.replace(train, cls=train.cls * 1000)
    config = LinearConfig(min_steps=40, batch_size=32, learning_rates=(1e-6, 1e38), layers=(1,), avgpool=(False,))
    heads = train_heads(wild, torch.arange(100), FeatureSet(1, False), [0, 1], 4, config, 0)
    accuracy, _ = score_heads(heads, FeatureSet(1, False), wild, torch.arange(100))
    assert accuracy[1] == -1
    assert choose_head(wild, torch.arange(80), wild, torch.arange(80, 100), 4, config, 0).rate == 0


def test_heads_that_all_diverge_are_said(colour_encoder):
    train = _blobs(100, 1)
    config = LinearConfig(min_steps=20, batch_size=32, learning_rates=(1e38,), layers=(1,), avgpool=(False,))
    wild = dataclasses.replace(train, cls=train.cls * 1000)
    with pytest.raises(InputError, match="all 1 heads have diverged"):
        evaluate_linear(wild, wild, 4, colour_encoder, config, "clean", 0)


def test_one_train_image_cannot_be_held_out(colour_encoder):
    with pytest.raises(InputError, match="1 train image leaves none"):
        evaluate_linear(_blobs(1, 1), _blobs(10, 2), 4, colour_encoder, CONFIG, "clean", 0)


def test_the_accuracy_equals_scikit_learns(colour_encoder):
    from sklearn.linear_model import LogisticRegression

    train, test = _blobs(400, 1, noise=2), _blobs(400, 2, noise=2)
    (outcome,) = evaluate_linear(train, test, 4, colour_encoder, LinearConfig(), "clean", 0)
    columns = [torch.cat([part.cls.flatten(1), part.patch_mean], dim=1).numpy() for part in (train, test)]
    oracle = LogisticRegression(C=0.1, max_iter=500).fit(columns[0], train.labels.numpy())
    accuracy = (outcome.predictions == test.labels.numpy()).mean()
    assert accuracy > oracle.score(columns[1], test.labels.numpy()) - 0.02


def test_updates_follow_the_passes_over_train_but_never_fall_below_the_floor():
    config = LinearConfig(epochs=10, batch_size=256, min_steps=500)
    assert num_steps(1_281_167, config) == 50_046
    assert num_steps(1000, config) == 500


def test_the_same_seed_gives_the_same_head(colour_encoder):
    train, test = _blobs(100, 1), _blobs(50, 2)
    runs = [evaluate_linear(train, test, 4, colour_encoder, CONFIG, "clean", 0)[0] for _ in range(2)]
    assert runs[0].setting == runs[1].setting
    assert np.array_equal(runs[0].predictions, runs[1].predictions)
