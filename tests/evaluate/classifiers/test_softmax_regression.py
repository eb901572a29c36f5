import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from lvd_evaluate.classifiers.softmax_regression import SoftmaxRegression, principal_axes

COSTS = (10 ** np.linspace(-4, 4, 9)).tolist()


def _draw(count: int, width: int, classes: int, seed: int, noise: float = 1.0):
    generator = np.random.default_rng(seed)
    scales = np.linspace(0.1, 2, width)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(0).normal(size=(classes, width))
    values = 3 + (centres[labels] + noise * generator.normal(size=(count, width))) * scales
    return torch.from_numpy(values).half(), torch.from_numpy(labels)


def _objective(weights, biases, features, labels, cost):
    logits = features.double().numpy() @ weights.T + biases
    peak = logits.max(axis=1, keepdims=True)
    logs = logits - peak - np.log(np.exp(logits - peak).sum(axis=1, keepdims=True))
    return -cost * logs[np.arange(len(labels)), labels].sum() + (weights**2).sum() / 2


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(150, 6, 3), (30, 40, 5), (120, 5, 4)]), st.sampled_from([0.3, 2.0]))
def test_the_path_reaches_scikit_learns_minimum_for_every_c(seed, shape, noise):
    features, labels = _draw(*shape, seed, noise)
    solutions = SoftmaxRegression(features, labels, shape[2]).path(COSTS, 1e-8, 1000)
    for cost, solved in zip(COSTS, solutions, strict=True):
        oracle = LogisticRegression(C=cost, tol=1e-10, max_iter=5000).fit(features.double().numpy(), labels.numpy())
        ours = _objective(solved.weights.numpy(), solved.biases.numpy(), features, labels.numpy(), cost)
        theirs = _objective(oracle.coef_, oracle.intercept_, features, labels.numpy(), cost)
        assert ours <= theirs * (1 + 1e-6)
        assert solved.excess <= 1e-8


def test_weights_and_classes_equal_scikit_learns():
    features, labels = _draw(200, 8, 4, 1, noise=3)
    (solved,) = SoftmaxRegression(features, labels, 4, torch.float64).path([0.3], 1e-14, 1000)
    oracle = LogisticRegression(C=0.3, tol=1e-10, max_iter=5000).fit(features.double().numpy(), labels.numpy())
    assert np.allclose(solved.weights, oracle.coef_, atol=1e-5)
    assert np.allclose(solved.biases - solved.biases.mean(), oracle.intercept_ - oracle.intercept_.mean(), atol=1e-4)
    assert np.array_equal(solved.classify(features), oracle.predict(features.double().numpy()))


def test_two_classes_are_one_sigmoid():
    features, labels = _draw(100, 5, 2, 1, noise=3)
    (solved,) = SoftmaxRegression(features, labels, 2, torch.float64).path([0.5], 1e-14, 1000)
    oracle = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000).fit(features.double().numpy(), labels.numpy())
    assert np.allclose(solved.weights[1] - solved.weights[0], oracle.coef_[0], atol=1e-5)


def test_where_it_starts_changes_nothing():
    features, labels = _draw(200, 8, 4, 1, noise=2)
    half = SoftmaxRegression(features[::2], labels[::2], 4)
    (near,) = half.path([1.0], 1e-8, 1000)
    whole = SoftmaxRegression(features, labels, 4, torch.float64)
    (cold,) = whole.path([1.0], 1e-14, 1000)
    warm = whole.solve(1.0, near, 1e-14, 1000)
    assert torch.allclose(warm.weights, cold.weights, atol=1e-5)
    again = whole.solve(1.0, cold, 1e-13, 1000)
    assert again.iterations == 0 < warm.iterations


def test_classes_without_an_example_are_never_said():
    features, labels = _draw(60, 4, 3, 1)
    (solved,) = SoftmaxRegression(features, labels * 2, 6).path([1.0], 1e-8, 1000)
    assert solved.biases.isinf().tolist() == [False, True, False, True, False, True]
    assert set(solved.classify(features * 100).tolist()) <= {0, 2, 4}
    (alone,) = SoftmaxRegression(features, torch.full_like(labels, 1), 3).path([1.0], 1e-8, 1000)
    assert alone.classify(features).unique().tolist() == [1]
    known = SoftmaxRegression(features, labels * 2, 6).solve(1.0, alone_in(solved), 1e-8, 1000)
    assert torch.allclose(known.weights, solved.weights, atol=1e-2)


def alone_in(solved):
    """The same solution with one class more unknown."""
    import dataclasses

    biases = solved.biases.clone()
    biases[2] = -torch.inf
    return dataclasses.replace(solved, biases=biases)


@pytest.mark.parametrize("values", [torch.ones(6, 3), torch.zeros(1, 4)])
def test_features_that_say_nothing_give_the_commonest_class(values):
    labels = torch.tensor([1, 1, 1, 1, 0, 2])[: len(values)]
    (solved,) = SoftmaxRegression(values.half(), labels, 3).path([10.0], 1e-10, 1000)
    assert solved.classify(values).unique().tolist() == [1]


def test_a_limit_on_steps_is_kept_and_told():
    features, labels = _draw(100, 8, 4, 1)
    (solved,) = SoftmaxRegression(features, labels, 4).path([1e4], 1e-8, 3)
    assert solved.iterations == 3
    assert solved.excess > 1e-8


def test_chunks_change_nothing(monkeypatch):
    from lvd_evaluate.classifiers import softmax_regression

    features, labels = _draw(50, 4, 3, 1)
    (whole,) = SoftmaxRegression(features, labels, 3, torch.float64).path([1.0], 1e-12, 1000)
    monkeypatch.setattr(softmax_regression, "TURNED_AT_ONCE", 7)
    (parts,) = SoftmaxRegression(features, labels, 3, torch.float64).path([1.0], 1e-12, 1000)
    assert torch.allclose(whole.weights, parts.weights, atol=1e-6)
    assert torch.equal(whole.classify(features), parts.classify(features))


@pytest.mark.parametrize("count", [5, 40])
def test_axes_span_what_varies(count):
    flat = torch.randn(count, 3, generator=torch.Generator().manual_seed(0)) @ torch.randn(3, 10)
    mean, axes = principal_axes(flat + 5)
    assert axes.shape == (10, 3)
    assert torch.allclose(axes.T @ axes, torch.eye(3, dtype=torch.float64), atol=1e-9)
    centred = (flat + 5).double() - mean
    assert torch.allclose(centred @ axes @ axes.T, centred, atol=1e-4)
