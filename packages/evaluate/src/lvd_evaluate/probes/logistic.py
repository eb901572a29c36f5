"""Logistic regression on raw class tokens, C from a grid (DINOv2, arXiv 2304.07193, fine-grained benchmarks).

Differences from the released procedure (cuML's L-BFGS; 45 cold fits of at most 1,000 iterations to 1e-12): one
warm-started path from small to large C, and convergence is measured, so large C on separable classes ends at the
solution where a limit on iterations would end before it. The rest is the released procedure: C in 10^linspace(-6, 5,
45) chosen on a random tenth of train, then a fit to all of train. Protocol `clean` differs in one thing, that the tenth
is balanced over classes. Neither chooses on test. Its images have a short side of 224 pixels before the crop of 224
(256 for kNN and linear); ours have what the encoder says, and the procedure names it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lvd_evaluate.classifiers.few_shot import deal_folds, draw_shots, measure_tries, spread_of_tries
from lvd_evaluate.classifiers.heads import split_off
from lvd_evaluate.classifiers.softmax_regression import Classifier, SoftmaxRegression
from lvd_evaluate.config import FewShotConfig, LogisticConfig
from lvd_evaluate.contracts import Encoder, Features, Outcome
from lvd_evaluate.errors import InputError
from lvd_evaluate.progress import track

ONE_SHOT_C = 1.0  # scikit-learn's default, where one image per class leaves nothing to choose on
CLOSER = 100  # times than on the path: no image may hang on how the last fit was solved
logger = logging.getLogger(__name__)


def evaluate_logistic(
    train: Features,
    test: Features,
    num_classes: int,
    encoder: Encoder,
    config: LogisticConfig,
    protocol: str,
    seed: int,
) -> list[Outcome]:
    """One outcome: predictions on test of the regression with the chosen C.

    Raises:
        InputError: too few train images to hold one out.
    """
    if len(train.labels) < 2:
        raise InputError(f"logistic: {len(train.labels)} train image leaves none to choose C on; give 2 or more")
    features, labels = train.cls[:, -1].to(encoder.device), train.labels.to(encoder.device)
    balanced = train.labels.cpu().numpy()
    held_out, rest = split_off(balanced if protocol == "clean" else np.zeros_like(balanced), config.holdout, seed)
    cost, share, near = choose_cost(features, labels, [(rest, held_out)], num_classes, config)
    chosen = refit(features, labels, cost, near, num_classes, config)
    return [
        Outcome(
            setting={"C": float(f"{cost:.6g}")},
            headline=True,
            procedure=f"logistic-{grid_name(config)}-{protocol}-resize{encoder.resize_size}-crop{encoder.image_size}",
            predictions=chosen.classify(test.cls[:, -1].to(encoder.device)).cpu().numpy(),
            feature=encoder.feature,
            notes={
                "chosen_on": f"{len(held_out)} held-out train images{'' if protocol == 'clean' else ', unbalanced'}",
                "accuracy_there": share,
                "heads": config.num_c,
                "iterations": chosen.iterations,
                "excess": chosen.excess,
                "seed": seed,
            },
        )
    ]


def evaluate_few_shot_logistic(
    train: Features,
    test: Features,
    num_classes: int,
    encoder: Encoder,
    config: LogisticConfig,
    shots: FewShotConfig,
    seed: int,
) -> list[Outcome]:
    """One outcome per number of images per class: the mean over tries.

    C is chosen by cross-validation among the drawn images alone, each fold holding out its share of every class:
    images beyond them would be labels that a few-shot learner does not have. Test is never read before.
    """
    features, labels = train.cls[:, -1].to(encoder.device), train.labels.to(encoder.device)
    seen, truth = test.cls[:, -1].to(encoder.device), test.labels.cpu().numpy()
    outcomes = []
    with track("logistic, few shots", shots.tries * len(set(shots.per_class)), "tries") as advance:
        for per_class in sorted(set(shots.per_class)):
            predictions, costs = [], []
            for attempt in range(shots.tries):
                rows = draw_shots(train.labels.cpu().numpy(), per_class, seed, attempt)
                cost, chosen = _fit_shots(features[rows], labels[rows], per_class, num_classes, config, shots)
                predictions.append(chosen.classify(seen).cpu().numpy())
                costs.append(float(f"{cost:.6g}"))
                advance(1)
            size = f"resize{encoder.resize_size}-crop{encoder.image_size}"
            outcomes.append(
                Outcome(
                    setting={"per_class": per_class},
                    headline=True,
                    procedure=f"logistic-{grid_name(config)}-{per_class}shot-{size}",
                    measurements=measure_tries(predictions, truth),
                    feature=encoder.feature,
                    notes={
                        "chosen_on": "the drawn images, by cross-validation" if per_class > 1 else "nothing: C fixed",
                        "C_of_tries": costs,
                        "seed": seed,
                        **spread_of_tries(predictions, truth),
                    },
                )
            )
    return outcomes


def choose_cost(
    features: Tensor,
    labels: Tensor,
    splits: Sequence[tuple[Tensor, Tensor]],
    num_classes: int,
    config: LogisticConfig,
) -> tuple[float, float, Classifier]:
    """C of the grid most often right on the deciding rows, its share right there, and the first split's solution.

    The smallest of equals is taken. Therefore the path ends where every deciding image is right: nothing beyond can
    be preferred. It ends early for no other reason.

    Args:
        features: [N, D].
        labels: int64 [N].
        splits: row numbers that teach, and that decide; one pair, or one per fold.
        num_classes: classes of the task.
        config: the grid.
    """
    problems = [SoftmaxRegression(features[teach], labels[teach], num_classes) for teach, _ in splits]
    paths = [problem.path(costs_of(config), config.tolerance, config.max_iterations) for problem in problems]
    total = sum(len(decide) for _, decide in splits)
    best: tuple[float, int, Classifier] | None = None
    with track(f"logistic, {len(features)} images", config.num_c, "values of C") as advance:
        for cost, solved in zip(costs_of(config), zip(*paths, strict=True), strict=False):
            right = 0
            for (_, decide), classifier in zip(splits, solved, strict=True):
                right += int((classifier.classify(features[decide]) == labels[decide]).sum())
            if best is None or right > best[1]:
                best = (cost, right, solved[0])
            advance(1)
            if right == total:
                break
    assert best is not None
    return best[0], best[1] / total, best[2]


def refit(
    features: Tensor, labels: Tensor, cost: float, near: Classifier, num_classes: int, config: LogisticConfig
) -> Classifier:
    """Fit all rows in float64 and more closely, from a solution on a part of them."""
    problem, tolerance = SoftmaxRegression(features, labels, num_classes, torch.float64), config.tolerance / CLOSER
    solved = problem.solve(cost, near, tolerance, config.max_iterations)
    if solved.excess > tolerance:
        logger.warning(
            "logistic: C=%g is not solved after %d iterations (excess %.1e); raise logistic.max_iterations",
            *(cost, solved.iterations, solved.excess),
        )
    return solved


def costs_of(config: LogisticConfig) -> list[float]:
    """The grid of C, from small to large."""
    return (10 ** np.linspace(config.min_log10_c, config.max_log10_c, config.num_c)).tolist()


def grid_name(config: LogisticConfig) -> str:
    """`45` for the released procedure's grid and share held out; what differs is spelled out."""
    released, name = LogisticConfig(), str(config.num_c)
    if (config.min_log10_c, config.max_log10_c) != (released.min_log10_c, released.max_log10_c):
        name += f"from{config.min_log10_c:g}to{config.max_log10_c:g}"
    return name if config.holdout == released.holdout else f"{name}-holdout{config.holdout:g}"


def _fit_shots(
    features: Tensor, labels: Tensor, per_class: int, num_classes: int, config: LogisticConfig, shots: FewShotConfig
) -> tuple[float, Classifier]:
    """The chosen C and its fit to all drawn images."""
    folds = deal_folds(labels.cpu().numpy(), min(shots.folds, per_class))
    if folds.max() == 0:  # one image of each class, whatever was asked for
        start = SoftmaxRegression(features, labels, num_classes).path([ONE_SHOT_C], config.tolerance, 0)
        return ONE_SHOT_C, refit(features, labels, ONE_SHOT_C, next(start), num_classes, config)
    parts = [torch.from_numpy(folds == fold).nonzero()[:, 0] for fold in range(folds.max() + 1)]
    others = [torch.from_numpy(folds != fold).nonzero()[:, 0] for fold in range(folds.max() + 1)]
    cost, _, near = choose_cost(features, labels, list(zip(others, parts, strict=True)), num_classes, config)
    return cost, refit(features, labels, cost, near, num_classes, config)
