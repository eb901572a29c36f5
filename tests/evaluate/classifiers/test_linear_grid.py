import dataclasses
from typing import ClassVar

import torch

from lvd_evaluate.classifiers import linear_grid
from lvd_evaluate.classifiers.linear_grid import (
    CachedTraining,
    FeatureSet,
    best_head,
    build_heads,
    draw_order,
    feature_sets,
    fit_head,
    num_steps,
    score_heads,
    train_heads,
)
from lvd_evaluate.config import LinearConfig
from lvd_evaluate.contracts import Features

CONFIG = LinearConfig(min_steps=60, batch_size=32)


def test_inputs_are_class_tokens_of_the_last_blocks_and_the_mean_patch(blobs):
    features = blobs(5, 1)
    rows = torch.arange(5)
    assert torch.equal(FeatureSet(1, False).read(features, rows), features.cls[:, 3].float())
    both = FeatureSet(4, True).read(features, rows)
    assert both.shape == (5, 4 * 8 + 8)
    assert torch.equal(both[:, :32], features.cls.flatten(1).float())
    assert torch.equal(both[:, 32:], features.patch_mean.float())


def test_only_the_inputs_that_exist_are_tried(blobs):
    deep, pooled = blobs(5, 1), CONFIG
    assert len(feature_sets(deep, pooled)) == 4
    pixels = Features(deep.cls[:, :1], None, deep.labels, 1.0, 1.0)
    assert feature_sets(pixels, CONFIG) == [FeatureSet(1, False)]
    assert feature_sets(pixels, LinearConfig(layers=(4,))) == [FeatureSet(1, False)]


def test_52_stacked_heads_equal_52_separate_ones_after_50_steps(blobs):
    train, rows = blobs(120, 1), torch.arange(120)
    config = LinearConfig(min_steps=50, epochs=0, batch_size=32)
    stacks = CachedTraining(train, 4, config, 0)(rows, feature_sets(train, config), range(13))
    separate = 0
    for feature_set, heads in stacks.items():
        inputs = feature_set.read(train, rows)
        untrained = build_heads(train, feature_set, range(13), 4, 32, config, 0)
        for position, rate in enumerate(config.learning_rates):
            head = torch.nn.Linear(inputs.shape[1], 4)
            head.weight.data, head.bias.data = untrained.weights[position].clone(), torch.zeros(4)
            optimizer = torch.optim.SGD(head.parameters(), lr=rate * 32 / 256, momentum=0.9)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, eta_min=0)
            for batch in draw_order(rows, 50, 32, 0):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(head(inputs[batch]), train.labels[batch]).backward()
                optimizer.step()
                schedule.step()
            assert torch.allclose(heads.weights[position], head.weight, atol=1e-5)
            assert torch.allclose(heads.biases[position], head.bias, atol=1e-5)
            separate += 1
    assert separate == 52


def test_a_head_does_not_depend_on_which_others_are_trained(blobs):
    train, rows = blobs(120, 1), torch.arange(120)
    together = train_heads(train, rows, FeatureSet(4, True), list(range(13)), 4, CONFIG, 0)
    alone = train_heads(train, rows, FeatureSet(4, True), [7], 4, CONFIG, 0)
    assert torch.allclose(together.weights[7], alone.weights[0], atol=1e-5)


def test_the_best_head_on_the_judges_images_is_chosen(blobs):
    train, judge = blobs(200, 1, noise=3), blobs(80, 2, noise=3)
    rows, judge_rows = torch.arange(200), torch.arange(80)
    choice = best_head(
        CachedTraining(train, 4, CONFIG, 0)(rows, feature_sets(train, CONFIG), range(13)), judge, judge_rows, ""
    )
    scores = [
        accuracy
        for feature_set in feature_sets(train, CONFIG)
        for accuracy in score_heads(
            train_heads(train, rows, feature_set, list(range(13)), 4, CONFIG, 0), feature_set, judge, judge_rows
        )[0]
    ]
    assert choice.accuracy == max(scores)


def test_a_diverged_head_is_never_chosen(blobs):
    train = blobs(100, 1)
    wild = dataclasses.replace(train, cls=train.cls * 1000)
    config = LinearConfig(min_steps=40, batch_size=32, learning_rates=(1e-6, 1e38), layers=(1,), avgpool=(False,))
    heads = train_heads(wild, torch.arange(100), FeatureSet(1, False), [0, 1], 4, config, 0)
    accuracy, _ = score_heads(heads, FeatureSet(1, False), wild, torch.arange(100))
    assert accuracy[1] == -1
    assert best_head({FeatureSet(1, False): heads}, wild, torch.arange(80, 100), "").rate == 0


class RecordedTraining(CachedTraining):
    """Notes which rows each training sees."""

    def __call__(self, rows, sets, rates):
        self.seen.append(rows)
        return super().__call__(rows, sets, rates)

    seen: ClassVar[list[torch.Tensor]] = []


def test_the_held_out_slice_is_never_trained_on_before_the_choice(blobs, monkeypatch):
    train, judged, plain = blobs(50, 1), [], linear_grid.best_head
    monkeypatch.setattr(linear_grid, "best_head", lambda *given: judged.append(given[2]) or plain(*given))
    fit_head(RecordedTraining(train, 4, CONFIG, 0), train, blobs(10, 2), CONFIG, "clean", 0)
    chosen_from, refit = RecordedTraining.seen
    assert sorted([*chosen_from.tolist(), *judged[0].tolist()]) == list(range(50))
    assert len(judged[0]) == 5
    assert refit.tolist() == list(range(50))


def test_updates_follow_the_passes_over_train_but_never_fall_below_the_floor():
    config = LinearConfig(epochs=10, batch_size=256, min_steps=500)
    assert num_steps(1_281_167, config) == 50_046
    assert num_steps(1000, config) == 500
