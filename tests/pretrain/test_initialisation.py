import pytest
import torch
from torch import nn

from lvd_pretrain.initialisation import init_linears


@pytest.mark.parametrize(("std", "expected"), [(0.02, 0.02), (None, 1 / 16)])
def test_every_linear_gets_the_asked_deviation_and_no_bias(std, expected):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(256, 400), nn.Sequential(nn.Linear(256, 400)), nn.LayerNorm(3))
    init_linears(module, std)
    for layer in (module[0], module[1][0]):
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.02)
        assert layer.bias.abs().sum() == 0
    assert module[2].weight.eq(1).all()
