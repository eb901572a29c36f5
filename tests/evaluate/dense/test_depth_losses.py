import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lvd_evaluate.dense.depth_losses import gradient_loss, sig_loss


def draw(shape=(2, 9, 7), seed=0):
    generator = torch.Generator().manual_seed(seed)
    prediction, truth = (torch.rand(shape, generator=generator) + 0.5 for _ in range(2))
    return prediction, truth, torch.rand(shape, generator=generator) > 0.3


@given(st.integers(0, 1000))
def test_sig_loss_equals_its_formula_in_numpy(seed):
    prediction, truth, valid = draw(seed=seed)
    g = (np.log(prediction.numpy() + 1e-3) - np.log(truth.numpy() + 1e-3))[valid.numpy()].astype(np.float64)
    expected = np.sqrt(g.var(ddof=1) + 0.15 * g.mean() ** 2)
    assert sig_loss(prediction, truth, valid).item() == pytest.approx(expected, rel=1e-4)
    assert sig_loss(prediction, truth, valid, mean_only=True).item() == pytest.approx(
        np.sqrt(0.15) * abs(g.mean()), rel=1e-3, abs=1e-6
    )


def test_a_common_factor_costs_the_mean_term_only():
    _, truth, valid = draw()
    loss = sig_loss(1.5 * (truth + 1e-3) - 1e-3, truth, valid)
    assert loss.item() == pytest.approx(np.sqrt(0.15) * np.log(1.5), rel=1e-3)


def test_pixels_that_are_not_valid_do_not_count():
    prediction, truth, valid = draw()
    spoilt = torch.where(valid, truth, torch.zeros(()))
    assert torch.equal(sig_loss(prediction, truth, valid), sig_loss(prediction, spoilt, valid))
    assert torch.equal(gradient_loss(prediction, truth, valid), gradient_loss(prediction, spoilt, valid))


@pytest.mark.parametrize("loss", [sig_loss, gradient_loss])
def test_a_batch_without_truth_gives_zero_and_finite_gradients(loss):
    prediction, truth, valid = draw()
    prediction.requires_grad_()
    value = loss(prediction, truth, torch.zeros_like(valid))
    value.backward()
    assert value.item() == 0
    assert (prediction.grad == 0).all()


def test_gradient_loss_sees_slopes_at_two_images_and_no_common_factor():
    prediction, truth, valid = draw()
    assert gradient_loss(prediction, truth, valid) > 0.1
    assert gradient_loss(1.5 * (truth + 1e-3) - 1e-3, truth, valid).item() == pytest.approx(0, abs=1e-5)


def test_gradient_loss_of_a_ramp():
    steps = torch.arange(16.0)
    truth = torch.ones(1, 16, 16)
    prediction = torch.exp(0.01 * steps)[None, None, :].expand(1, 16, 16) * (1 + 1e-3) - 1e-3
    valid = torch.ones(1, 16, 16, dtype=torch.bool)
    expected = sum(0.02 * step * (16 // step - 2) / (16 // step) for step in (1, 2, 4, 8))
    assert gradient_loss(prediction, truth, valid).item() == pytest.approx(expected, rel=1e-4)
