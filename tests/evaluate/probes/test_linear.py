import dataclasses

import numpy as np
import pytest
import torch

from lvd_evaluate.config import LinearConfig
from lvd_evaluate.errors import InputError
from lvd_evaluate.probes.linear import evaluate_linear

CONFIG = LinearConfig(min_steps=60, batch_size=32)


def test_the_grid_has_52_heads(colour_encoder, blobs):
    (outcome,) = evaluate_linear(blobs(200, 1), blobs(100, 2), 4, colour_encoder, CONFIG, "clean", 0)
    assert outcome.notes["heads"] == 52
    assert outcome.notes["chosen_on"] == "20 held-out train images"
    assert (outcome.predictions == blobs(100, 2).labels.numpy()).mean() > 0.8


def test_the_clean_choice_never_sees_test(colour_encoder, blobs):
    train, test = blobs(200, 1), blobs(100, 2)
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


def test_the_papers_choice_does_see_test_and_says_so(colour_encoder, blobs):
    train, test = blobs(100, 1, noise=4), blobs(60, 2, noise=4)
    cached = dataclasses.replace(CONFIG, augment="false")
    (outcome,) = evaluate_linear(train, test, 4, colour_encoder, cached, "dinov2", 0)
    assert outcome.notes["chosen_on"] == "the test images themselves"
    assert "-dinov2-" in outcome.procedure
    assert outcome.notes["accuracy_there"] == pytest.approx((outcome.predictions == test.labels.numpy()).mean())
    (clean,) = evaluate_linear(train, test, 4, colour_encoder, CONFIG, "clean", 0)
    assert outcome.notes["accuracy_there"] >= (clean.predictions == test.labels.numpy()).mean()


def test_heads_that_all_diverge_are_said(colour_encoder, blobs):
    train = blobs(100, 1)
    config = LinearConfig(min_steps=20, batch_size=32, learning_rates=(1e38,), layers=(1,), avgpool=(False,))
    wild = dataclasses.replace(train, cls=train.cls * 1000)
    with pytest.raises(InputError, match="all 1 heads have diverged"):
        evaluate_linear(wild, wild, 4, colour_encoder, config, "clean", 0)


def test_one_train_image_cannot_be_held_out(colour_encoder, blobs):
    with pytest.raises(InputError, match="1 train image leaves none"):
        evaluate_linear(blobs(1, 1), blobs(10, 2), 4, colour_encoder, CONFIG, "clean", 0)


def test_the_accuracy_equals_scikit_learns(colour_encoder, blobs):
    from sklearn.linear_model import LogisticRegression

    train, test = blobs(400, 1, noise=2), blobs(400, 2, noise=2)
    (outcome,) = evaluate_linear(train, test, 4, colour_encoder, LinearConfig(), "clean", 0)
    columns = [torch.cat([part.cls.flatten(1), part.patch_mean], dim=1).numpy() for part in (train, test)]
    oracle = LogisticRegression(C=0.1, max_iter=500).fit(columns[0], train.labels.numpy())
    accuracy = (outcome.predictions == test.labels.numpy()).mean()
    assert accuracy > oracle.score(columns[1], test.labels.numpy()) - 0.02


def test_the_same_seed_gives_the_same_head(colour_encoder, blobs):
    train, test = blobs(100, 1), blobs(50, 2)
    runs = [evaluate_linear(train, test, 4, colour_encoder, CONFIG, "clean", 0)[0] for _ in range(2)]
    assert runs[0].setting == runs[1].setting
    assert np.array_equal(runs[0].predictions, runs[1].predictions)
