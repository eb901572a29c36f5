import torch

from lvd_pretrain.centering import Center


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
