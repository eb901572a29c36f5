import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lvd_pretrain import scores as tiling
from lvd_pretrain.scores import Scores
from lvd_pretrain.sinkhorn import factored_sinkhorn_knopp, sinkhorn_knopp


def potentials_oracle(logits: torch.Tensor, temperature: float, iterations: int) -> torch.Tensor:
    """The same fixed-point steps on log potentials, in float64."""
    x = logits.double() / temperature
    a, b = torch.zeros(x.shape[1]), torch.zeros(x.shape[0], 1)
    for _ in range(iterations):
        a = -torch.logsumexp(x + b, 0)
        b = -torch.logsumexp(x + a, 1, keepdim=True)
    return torch.exp(x + a + b)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 20), columns=st.integers(1, 30), iterations=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_equals_the_potentials_form_and_rows_sum_to_one(rows, columns, iterations, seed):
    logits = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    assigned = sinkhorn_knopp(logits, 0.07, iterations)
    assert torch.allclose(assigned.sum(1), torch.ones(rows), atol=1e-5)
    assert torch.allclose(assigned.double(), potentials_oracle(logits, 0.07, iterations), atol=1e-5)


def test_prototypes_end_up_equally_used():
    torch.manual_seed(0)
    logits = torch.randn(400, 8) * 0.05 + torch.linspace(0, 1, 8)  # one prototype far ahead before balancing
    assert (logits / 0.07).softmax(-1).sum(0).max() > 300
    used = sinkhorn_knopp(logits, 0.07, 20).sum(0)
    assert used == pytest.approx([50.0] * 8, rel=0.02)


@pytest.mark.parametrize(
    "logits", [[[40.0, 0.0], [0.0, 40.0]], [[40.0, 0.0], [0.0, 0.0]], [[10.0, -5.0], [-2.0, -3.0]]]
)
def test_sharp_logits_neither_overflow_nor_vanish(logits):
    assigned = sinkhorn_knopp(torch.tensor(logits), 0.04, 3)
    assert torch.allclose(assigned.double(), potentials_oracle(torch.tensor(logits), 0.04, 3), atol=1e-4)
    assert torch.allclose(assigned.sum(1), torch.ones(2))


@pytest.mark.parametrize("temperature", [0.04, 0.07])
def test_the_factored_form_gives_the_dense_targets(monkeypatch, temperature):
    monkeypatch.setattr(tiling, "TILE_ROWS", 7)
    monkeypatch.setattr(tiling, "TILE_COLUMNS", 10)
    torch.manual_seed(0)
    features, weight = (torch.nn.functional.normalize(torch.randn(n, 6), dim=-1) for n in (23, 41))
    scores = Scores(features, weight)
    targets = factored_sinkhorn_knopp(scores, temperature, 3)
    assert torch.allclose(targets.dense(), sinkhorn_knopp(scores.dense(), temperature, 3), atol=1e-5)
    assert torch.allclose(targets.dense().sum(1), torch.ones(23), atol=1e-5)


def test_no_rows_are_fine():
    assert factored_sinkhorn_knopp(Scores(torch.empty(0, 3), torch.randn(5, 3)), 0.07, 3).dense().shape == (0, 5)
    assert sinkhorn_knopp(torch.empty(0, 5), 0.07, 3).shape == (0, 5)
