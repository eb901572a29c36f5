import math

import pytest
import torch
import torch.nn.functional as F

from lvd_pretrain import scores as tiling
from lvd_pretrain.losses import dino_loss, ibot_loss, koleo_loss, pair_cross_entropy, soft_cross_entropy
from lvd_pretrain.scores import Scores
from lvd_pretrain.sinkhorn import factored_sinkhorn_knopp


def test_soft_cross_entropy_equals_pytorchs():
    torch.manual_seed(0)
    targets, logits = torch.rand(6, 11).softmax(-1), torch.randn(6, 11)
    expected = F.cross_entropy(logits / 0.1, targets, reduction="none")
    assert torch.allclose(soft_cross_entropy(targets, logits, 0.1), expected, atol=1e-5)


@pytest.mark.parametrize("views", [2, 5])
def test_dino_loss_is_the_mean_over_crossed_pairs(views):
    torch.manual_seed(0)
    targets, logits = torch.randn(2, 4, 9).softmax(-1), torch.randn(views, 4, 9)
    shared, local = dino_loss(targets, logits, 0.1)
    pairs = [(t, v) for t in range(2) for v in range(views) if t != v]
    expected = sum(soft_cross_entropy(targets[t], logits[v], 0.1).mean() for t, v in pairs) / len(pairs)
    assert shared + local == pytest.approx(float(expected), abs=1e-5)
    assert (local == 0) == (views == 2)


def test_uniform_predictions_give_the_papers_starting_values():
    """At 8 local crops the terms start at 1/9 and 8/9 of ln K (reference values of the released logs)."""
    targets, logits = torch.randn(2, 4, 64).softmax(-1), torch.zeros(10, 4, 64)
    shared, local = dino_loss(targets, logits, 0.1)
    assert shared == pytest.approx(math.log(64) / 9, rel=1e-5)
    assert local == pytest.approx(math.log(64) * 8 / 9, rel=1e-5)


def test_ibot_loss_weighs_crops_not_patches():
    torch.manual_seed(0)
    targets, logits = torch.randn(5, 9).softmax(-1), torch.randn(5, 9)
    weights = torch.tensor([1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3])  # two masked crops of four
    each = soft_cross_entropy(targets, logits, 0.1)
    expected = (each[:2].mean() + each[2:].mean()) / 4
    assert ibot_loss(targets, logits, weights, 4, 0.1) == pytest.approx(float(expected), abs=1e-5)


def test_koleo_is_minus_the_mean_log_distance_to_the_nearest_neighbour():
    torch.manual_seed(0)
    x = torch.randn(12, 6)
    points = F.normalize(x.double(), dim=-1)
    distances = torch.cdist(points, points) + torch.eye(12) * 10
    assert koleo_loss(x) == pytest.approx(float(-distances.min(1).values.log().mean()), abs=1e-4)


def test_koleo_survives_twins_and_is_float32_under_autocast():
    x = torch.randn(4, 6)
    x[1] = x[0]
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = koleo_loss(x)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()


def test_losses_are_float32_under_autocast():
    torch.manual_seed(0)
    targets, logits = torch.randn(2, 4, 64).softmax(-1), torch.randn(5, 4, 64)
    plain = (*dino_loss(targets, logits, 0.1), ibot_loss(targets[0], logits[0], torch.ones(4), 4, 0.1))
    with torch.autocast("cpu", torch.bfloat16):
        cast = (*dino_loss(targets, logits, 0.1), ibot_loss(targets[0], logits[0], torch.ones(4), 4, 0.1))
    assert all(a.dtype == torch.float32 and torch.equal(a, b) for a, b in zip(cast, plain, strict=True))


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def factored_pair(views: int, samples: int, prototypes: int):
    """Leaves of the student (features, prototypes) and Sinkhorn-Knopp targets of two teacher views."""
    torch.manual_seed(views + samples)
    features, weight = unit(views, samples, 6).requires_grad_(), (unit(prototypes, 6) * 1.3).requires_grad_()
    targets = factored_sinkhorn_knopp(Scores(unit(2 * samples, 6), unit(prototypes, 6)), 0.05, 3)
    return features, weight, targets.unflatten(0, (2, samples))


@pytest.mark.parametrize(("views", "samples", "prototypes"), [(5, 4, 37), (2, 9, 8), (3, 1, 50), (2, 0, 8)])
def test_factored_cross_entropy_has_the_values_and_gradients_of_the_dense_one(monkeypatch, views, samples, prototypes):
    monkeypatch.setattr(tiling, "TILE_ROWS", 12)
    monkeypatch.setattr(tiling, "TILE_COLUMNS", 10)
    features, weight, targets = factored_pair(views, samples, prototypes)
    factors = torch.randn(2, views, samples)  # every pair of views with a gradient of its own
    scores = Scores(features, weight)
    factored = pair_cross_entropy(targets, scores, 0.1)
    dense = pair_cross_entropy(targets.dense(), scores.dense(), 0.1)
    assert factored.shape == dense.shape == (2, views, samples)
    assert torch.allclose(factored, dense, rtol=1e-5, atol=1e-5)
    ours = torch.autograd.grad((factored * factors).sum(), (features, weight))
    theirs = torch.autograd.grad((dense * factors).sum(), (features, weight))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5 * float(factors.abs().sum() + 1))


def test_factored_losses_are_the_dense_ones_also_under_autocast():
    features, weight, targets = factored_pair(6, 4, 40)
    patches = factored_sinkhorn_knopp(Scores(unit(5, 6), unit(40, 6)), 0.05, 3)
    weights, masked = torch.rand(5), Scores(unit(5, 6), weight)
    with torch.autocast("cpu", torch.bfloat16):
        ours = (*dino_loss(targets, Scores(features, weight), 0.1), ibot_loss(patches, masked, weights, 4, 0.1))
    theirs = (
        *dino_loss(targets.dense(), features @ weight.T, 0.1),
        ibot_loss(patches.dense(), masked.dense(), weights, 4, 0.1),
    )
    assert [loss.item() for loss in ours] == pytest.approx([loss.item() for loss in theirs], rel=1e-5)
    ours[2].backward()
    assert torch.isfinite(weight.grad).all()
