import torch

from lvd_pretrain.centering import Center
from lvd_pretrain.scores import Scores


def test_targets_use_the_centre_from_before_and_the_centre_follows_the_mean():
    torch.manual_seed(0)
    center = Center(5, momentum=0.9)
    first, second = torch.randn(8, 5), torch.randn(8, 5)
    assert torch.allclose(center(first, 0.04), (first / 0.04).softmax(-1))
    mean = 0.1 * first.mean(0)
    assert torch.allclose(center.value, mean, atol=1e-6)
    assert torch.allclose(center(second, 0.04), ((second - mean) / 0.04).softmax(-1), atol=1e-5)


def test_centering_stops_one_prototype_from_winning_everything():
    center = Center(4, momentum=0.0)
    logits = torch.randn(64, 4) * 0.1 + torch.tensor([5.0, 0, 0, 0])
    assert (center(logits, 0.1).argmax(1) == 0).all()
    assert (center(logits, 0.1).argmax(1) == 0).float().mean() < 0.6


def test_factored_targets_and_moves_are_the_dense_ones():
    torch.manual_seed(0)
    dense, factored = Center(7, momentum=0.5), Center(7, momentum=0.5)
    for _ in range(3):  # the centre of one call is in the targets of the next
        scores = Scores(torch.randn(9, 4), torch.randn(7, 4))
        targets = dense(scores.dense(), 0.1)
        assert torch.allclose(factored.factored(scores, 0.1).dense(), targets, atol=1e-5)
        assert torch.allclose(factored.value, dense.value, atol=1e-6)
