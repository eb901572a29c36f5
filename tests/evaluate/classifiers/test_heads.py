import math

import numpy as np
import pytest
import torch

from lvd_evaluate.classifiers.heads import (
    StackedHeads,
    cosine_decay,
    draw_batches,
    draw_weights,
    split_off,
    threads_for_step,
)


def test_stacked_heads_equal_separate_ones_after_50_steps():
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(200, 20, generator=generator), torch.randint(0, 7, (200,), generator=generator)
    rates = torch.logspace(-4, 0, 13)
    weights = draw_weights(13, 7, 20, 0.01, generator)
    stacked = StackedHeads(weights, rates, momentum=0.9)
    separate = []
    for weight, rate in zip(weights, rates, strict=True):
        head = torch.nn.Linear(20, 7)
        head.weight.data, head.bias.data = weight.clone(), torch.zeros(7)
        optimizer = torch.optim.SGD(head.parameters(), lr=rate.item(), momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, eta_min=0)
        separate.append((head, optimizer, schedule))
    for step in range(50):
        batch = torch.randint(0, 200, (32,), generator=generator)
        stacked.step(features[batch], labels[batch], cosine_decay(step, 50))
        for head, optimizer, schedule in separate:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(head(features[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    for position, (head, _, _) in enumerate(separate):
        assert torch.allclose(stacked.weights[position], head.weight, atol=1e-5)
        assert torch.allclose(stacked.biases[position], head.bias, atol=1e-5)
        assert torch.allclose(stacked.logits(features)[:, position], head(features), atol=1e-4)


def test_batches_pass_over_all_images_before_any_returns():
    batches = list(draw_batches(10, 4, 5, torch.Generator().manual_seed(0)))
    rows = torch.cat(batches)
    assert [len(batch) for batch in batches] == [4] * 5
    assert sorted(rows[:10].tolist()) == sorted(rows[10:].tolist()) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()


def test_a_batch_larger_than_the_data_repeats_it():
    (batch,) = draw_batches(3, 6, 1, torch.Generator().manual_seed(0))
    assert sorted(batch.tolist()) == [0, 0, 1, 1, 2, 2]


def test_the_schedule_falls_from_one_to_zero():
    assert cosine_decay(0, 8) == 1
    assert cosine_decay(4, 8) == pytest.approx(0.5)
    assert cosine_decay(8, 8) == pytest.approx(0)
    assert cosine_decay(2, 8) == pytest.approx(0.5 + 0.5 * math.sqrt(0.5))


@pytest.mark.parametrize(("width", "expected"), [(10, 1), (100_000, 2)])
def test_small_steps_use_one_thread_and_give_the_others_back(width, expected):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    heads = StackedHeads(torch.zeros(13, 10, width), torch.ones(13), momentum=0.9)
    try:
        with threads_for_step(heads, 128):
            inside = torch.get_num_threads()
        assert (inside, torch.get_num_threads()) == (expected, 2)
    finally:
        torch.set_num_threads(before)


def test_the_slice_keeps_the_shares_of_the_classes():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    held_out, rest = split_off(labels, 0.1, seed=0)
    assert np.bincount(labels[held_out]).tolist() == [60, 30, 10]
    assert sorted(held_out.tolist() + rest.tolist()) == list(range(1000))
    assert not torch.equal(held_out, split_off(labels, 0.1, seed=1)[0])


@pytest.mark.parametrize("labels", [[0, 1], [0] * 5, list(range(7))])
def test_even_tiny_data_leaves_something_on_both_sides(labels):
    held_out, rest = split_off(np.array(labels), 0.1, seed=0)
    assert len(held_out) == 1
    assert len(rest) == len(labels) - 1
