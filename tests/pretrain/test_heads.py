import torch
from torch import nn

from lvd_pretrain.config import HeadConfig
from lvd_pretrain.heads import ProjectionHead, Prototypes


def test_prototypes_equal_pytorchs_weight_norm():
    torch.manual_seed(0)
    ours = Prototypes(8, 20)
    nn.init.uniform_(ours.weight_g, 0.5, 2)
    theirs = nn.utils.parametrizations.weight_norm(nn.Linear(8, 20, bias=False))
    theirs.parametrizations.weight.original0.data.copy_(ours.weight_g)
    theirs.parametrizations.weight.original1.data.copy_(ours.weight_v)
    x = torch.randn(5, 8)
    assert torch.allclose(ours(x).dense(), theirs(x), atol=1e-6)


def test_initial_logits_are_cosines():
    head = ProjectionHead(16, HeadConfig(prototypes=30, hidden=24, bottleneck=8), 0.02)
    logits = head(torch.randn(7, 16)).dense()
    assert logits.shape == (7, 30)
    assert logits.dtype == torch.float32
    assert logits.abs().max() <= 1 + 1e-5


def test_key_layout_is_the_official_one():
    names = list(ProjectionHead(16, HeadConfig(prototypes=30, hidden=24, bottleneck=8), 0.02).state_dict())
    assert names == [f"mlp.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")] + [
        "last_layer.weight_g",
        "last_layer.weight_v",
    ]
