"""Multinomial logistic regression with an L2 penalty, solved for one C after another on the same features.

The objective is scikit-learn's (lbfgs) and cuML's (qn): C times the summed cross-entropy plus half the squared norm of
the weights; biases go free; two classes are one sigmoid. What makes it fast is how it is solved:

- in the principal axes of the features, where the penalty is the same but the curvature is nearly diagonal;
- by L-BFGS (Liu & Nocedal 1989) that starts from the true diagonal of the curvature, once per C;
- with logits kept, so that a step along a direction costs no matrix product, however often its length is tried;
- each C from the line through the two solutions before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PAIRS = 10  # steps that L-BFGS remembers
TRIALS = 20  # of a step's length
SLOPE_LEFT = 0.5  # share of the slope at the start that a step may leave: a loose search, as L-BFGS wants it
NEVER = 1e-7  # probability taken for that of a true class at least, in the objective only
TURNED_AT_ONCE = 65536  # rows turned into principal axes at once, in float64


@dataclass(frozen=True)
class Classifier:
    """A solved problem, in the features' own coordinates."""

    weights: Tensor  # float64 [K, D]
    biases: Tensor  # float64 [K]; -inf for classes that had no example
    iterations: int
    excess: float  # of the objective over its minimum, as a share of it, estimated from gradient and curvature

    def classify(self, features: Tensor) -> Tensor:
        """Most probable class, int64 [N], of features [N, D] on the classifier's device."""
        chunks = features.split(TURNED_AT_ONCE)
        return torch.cat([(chunk.double() @ self.weights.T + self.biases).argmax(dim=1) for chunk in chunks])


@dataclass(frozen=True)
class _Point:
    """Where the solver stands."""

    weights: Tensor  # [R + 1, K] in principal axes; the last row are the biases
    logits: Tensor  # [N, K]

    def beyond(self, earlier: _Point) -> _Point:
        """As far again as from `earlier` to here; logits are linear in the weights."""
        return _Point(2 * self.weights - earlier.weights, 2 * self.logits - earlier.logits)


class SoftmaxRegression:
    """Features and labels, ready to be solved for any C. Holds about four arrays [N, K] beside the features."""

    def __init__(self, features: Tensor, labels: Tensor, num_classes: int, dtype: torch.dtype = torch.float32) -> None:
        """Take features [N, D], labels int64 [N] in 0..num_classes - 1 on the same device, and the solver's dtype."""
        self._present, self._labels = labels.unique(return_inverse=True)
        self._rows = torch.arange(len(labels), device=labels.device)
        self._num_classes = num_classes
        self._mean, self._axes = principal_axes(features)  # [D], [D, R]
        self._inputs = features.new_ones(len(features), self._axes.shape[1] + 1, dtype=dtype)  # [N, R + 1]
        for turned, chunk in zip(
            self._inputs.split(TURNED_AT_ONCE), features.split(TURNED_AT_ONCE), strict=True
        ):  # the last column stays 1, for the biases
            turned[:, :-1] = (chunk.double() - self._mean) @ self._axes
        self._penalised = torch.ones_like(self._inputs[0])[:, None]  # [R + 1, 1]
        self._penalised[-1] = 0

    def path(self, costs: Sequence[float], tolerance: float, max_iterations: int) -> Iterator[Classifier]:
        """Solve for each C in turn, given from small to large; see `solve`."""
        last: _Point | None = None
        start = self._point(self._inputs.new_zeros(self._inputs.shape[1], len(self._present)))
        for cost in costs:
            point, iterations, excess = self._minimise(cost, start, tolerance, max_iterations)
            yield self._classifier(point, iterations, excess)
            start = point if last is None else point.beyond(last)
            last = point

    def solve(self, cost: float, near: Classifier, tolerance: float, max_iterations: int) -> Classifier:
        """Solve for one C, starting from another problem's solution.

        Args:
            cost: C.
            near: a solution for features of the same width and classes.
            tolerance: estimated excess of the objective at which to stop, as a share of it.
            max_iterations: at which to stop in any case; each costs two products with the features.
        """
        biases = near.biases[self._present]  # [K]
        biases = biases.masked_fill(biases.isinf(), 0.0)
        weights = near.weights[self._present]  # [K, D]
        turned = torch.cat([self._axes.T @ weights.T, (weights @ self._mean + biases)[None]])  # [R + 1, K]
        return self._classifier(*self._minimise(cost, self._point(turned.to(self._inputs)), tolerance, max_iterations))

    def _point(self, weights: Tensor) -> _Point:
        return _Point(weights, self._inputs @ weights)

    def _classifier(self, point: _Point, iterations: int, excess: float) -> Classifier:
        turned = point.weights.double()
        found = (self._axes @ turned[:-1]).T  # [K, D]
        weights = found.new_zeros(self._num_classes, found.shape[1])
        biases = found.new_full((self._num_classes,), -math.inf)
        weights[self._present], biases[self._present] = found, turned[-1] - found @ self._mean
        return Classifier(weights, biases, iterations, excess)

    def _minimise(self, cost: float, point: _Point, tolerance: float, max_iterations: int) -> tuple[_Point, int, float]:
        """Descend from `point` on mean cross-entropy + penalty / 2 |weights|^2: where it ends, steps, excess."""
        if len(self._present) == 2:
            cost = cost / 2  # two opposite weight vectors carry half the squared norm of the sigmoid's one
        penalty = self._penalised / (cost * len(self._rows))  # [R + 1, 1]
        error = self._error(point.logits)
        gradient = self._gradient(error, point, penalty)
        curvature = self._curvature(error, penalty)
        memory = _Memory(curvature)
        for iteration in range(max_iterations + 1):
            surprise = -torch.log1p(error[self._rows, self._labels].clamp(min=NEVER - 1))  # [N], -log p
            objective = surprise.double().mean()
            objective += 0.5 * (penalty * point.weights.square()).sum()
            excess = float((gradient.square() / curvature).sum() / objective.clamp(min=1e-300))
            if excess <= tolerance or iteration == max_iterations:
                break
            direction = memory.newton_step(gradient)  # [R + 1, K]
            moved = self._step(point, gradient, direction, penalty)
            if moved is None:  # rounding hides every descent that is left
                break
            new_point, error = moved
            new_gradient = self._gradient(error, new_point, penalty)
            memory.remember(new_point.weights - point.weights, new_gradient - gradient)
            point, gradient = new_point, new_gradient
        return point, iteration, excess

    def _step(
        self, point: _Point, gradient: Tensor, direction: Tensor, penalty: Tensor
    ) -> tuple[_Point, Tensor] | None:
        """Point and error where the slope along `direction` has flattened; None if it leads nowhere.

        The objective is convex, so its slope grows along the way: a root between two lengths is closed in on.
        """
        change = self._inputs @ direction  # [N, K]
        steepest = _dot(gradient, direction)
        if not steepest < 0:
            return None
        linear, square = _dot(penalty * point.weights, direction), _dot(penalty * direction, direction)
        low, low_slope, high, high_slope, length = 0.0, steepest, math.inf, math.nan, 1.0
        for _ in range(TRIALS):
            logits = torch.add(point.logits, change, alpha=length)
            error = self._error(logits)
            slope = _dot(error, change) / len(error) + linear + length * square
            if abs(slope) <= -SLOPE_LEFT * steepest:
                return _Point(torch.add(point.weights, direction, alpha=length), logits), error
            if slope < 0:
                low, low_slope = length, slope
            else:
                high, high_slope = length, slope
            if math.isinf(high):
                length *= min(max(steepest / (steepest - slope), 1.5), 10.0) if slope > steepest else 4.0
            else:
                share = low_slope / (low_slope - high_slope)
                length = low + (high - low) * min(max(share, 0.1), 0.9)
        return None

    def _error(self, logits: Tensor) -> Tensor:
        """Softmax minus one-hot [N, K]; at the true class the negated sum of the others, exact when it is tiny."""
        error = logits.softmax(dim=1)
        error[self._rows, self._labels] = 0
        error[self._rows, self._labels] = -error.sum(dim=1)
        return error

    def _gradient(self, error: Tensor, point: _Point, penalty: Tensor) -> Tensor:
        return self._inputs.T @ error / len(error) + penalty * point.weights  # [R + 1, K]

    def _curvature(self, error: Tensor, penalty: Tensor) -> Tensor:
        """Diagonal of the second derivative [R + 1, K]."""
        spread = error.abs() * (1 - error.abs())  # p (1 - p), at the true class as elsewhere
        total = torch.zeros_like(self._inputs[0])[:, None].repeat(1, error.shape[1])
        for inputs, part in zip(self._inputs.split(TURNED_AT_ONCE), spread.split(TURNED_AT_ONCE), strict=True):
            total.addmm_(inputs.square().T, part)
        return total / len(error) + penalty + 1e-12  # biases have no penalty: never 0


class _Memory:
    """Recent steps and what they did to the gradient: an estimate of the inverse second derivative."""

    def __init__(self, curvature: Tensor) -> None:
        self._curvature = curvature
        self._pairs: list[tuple[Tensor, Tensor, float]] = []  # step, change of gradient, their product

    def remember(self, step: Tensor, change: Tensor) -> None:
        """Take a pair in; rounding may leave one without curvature, which says nothing."""
        product = _dot(step, change)
        if product > 1e-12 * _dot(step, step):
            self._pairs = [*self._pairs, (step, change, product)][-PAIRS:]

    def newton_step(self, gradient: Tensor) -> Tensor:
        """Minus the estimated inverse second derivative times the gradient, by the two-loop recursion."""
        vector, shares = gradient.clone(), []
        for step, change, product in reversed(self._pairs):
            shares.append(_dot(step, vector) / product)
            vector.add_(change, alpha=-shares[-1])
        vector /= self._curvature
        if self._pairs:
            _, change, product = self._pairs[-1]
            vector *= product / _dot(change, change / self._curvature)
        for (step, change, product), share in zip(self._pairs, reversed(shares), strict=True):
            vector.add_(step, alpha=share - _dot(change, vector) / product)
        return vector.neg_()


def principal_axes(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and orthonormal axes [D, R] along which features [N, D] vary at all; float64."""
    mean = torch.stack([chunk.double().sum(dim=0) for chunk in features.split(TURNED_AT_ONCE)]).sum(dim=0)
    mean /= len(features)
    if len(features) <= features.shape[1]:
        _, scales, axes = torch.linalg.svd(features.double() - mean, full_matrices=False)
        return mean, axes[scales > 1e-7 * scales[0]].T
    scatter = mean.new_zeros(len(mean), len(mean))
    for chunk in features.split(TURNED_AT_ONCE):
        centred = chunk.double() - mean
        scatter.addmm_(centred.T, centred)
    scales, axes = torch.linalg.eigh(scatter)
    return mean, axes[:, scales > 1e-14 * scales[-1]].contiguous()


def _dot(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one.flatten(), other.flatten()))
