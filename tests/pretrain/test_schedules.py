import math

import pytest

from lvd_pretrain.schedules import Schedules, cosine, linear


def test_cosine_and_linear_meet_their_ends():
    assert cosine(0, 10, 0.2, 0.9) == pytest.approx(0.2)
    assert cosine(5, 10, 0.2, 0.9) == pytest.approx(0.55)
    assert cosine(10, 10, 0.2, 0.9) == cosine(99, 10, 0.2, 0.9) == pytest.approx(0.9)
    assert linear(0, 4, 1.0, 3.0) == 1.0
    assert linear(4, 4, 1.0, 3.0) == linear(5, 4, 1.0, 3.0) == 3.0
    assert linear(0, 0, 1.0, 3.0) == 3.0


def test_learning_rate_warms_up_to_the_square_root_rule_then_decays(tiny):
    config = tiny("optim.steps=100", "optim.warmup=10", "optim.freeze_last_layer=5", "optim.base_lr=1e-3")
    schedules = Schedules(config, global_batch=256)
    rates = [schedules(step).lr for step in range(100)]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(1e-3 * math.sqrt(256 / 1024))
    assert rates.index(max(rates)) in (9, 10)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert schedules(4).last_layer_lr == 0
    assert schedules(5).last_layer_lr == schedules(5).lr > 0


def test_momentum_and_weight_decay_rise_over_the_run(tiny):
    schedules = Schedules(tiny("optim.steps=50"), global_batch=4)
    assert schedules(0).momentum == pytest.approx(0.992)
    assert 0.992 < schedules(25).momentum < schedules(49).momentum < 1
    assert schedules(0).weight_decay == pytest.approx(0.04)
    assert schedules(49).weight_decay > 0.39
    assert schedules(0).temperature == pytest.approx(0.04)
    assert schedules(10).temperature == pytest.approx(0.07)
