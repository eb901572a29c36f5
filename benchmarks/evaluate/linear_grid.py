"""The grid of 52 linear heads on cached features beside 52 scikit-learn fits on the same inputs.

    OMP_NUM_THREADS=1 python -m benchmarks.evaluate.linear_grid [--train 8000] [--test 2000] [--width 64]

Features of clusters with a falling spectrum in four layers and a mean patch token, stored as float16; the four inputs
of the grid. Ours is the whole probe: 52 heads, choice on a held-out slice, the chosen one trained again, predictions.
scikit-learn: logistic regression (lbfgs, float32, default tolerance, 500 iterations at most) with 13 values of C in
10^linspace(-4, 2, 13) on each input, chosen on the same slice and fitted again to all of train. CPU time of one thread,
ours the less of two. Our accuracy may be no more than 0.5 points lower. Limit: a fifth. Appends one JSON line.
"""

import argparse
import time
from types import SimpleNamespace

import numpy as np
import torch
from benchmarks.turns import Target, record
from sklearn.linear_model import LogisticRegression

from lvd_evaluate.classifiers.heads import split_off
from lvd_evaluate.config import LinearConfig
from lvd_evaluate.contracts import Features
from lvd_evaluate.probes.linear import evaluate_linear

CLASSES, LAYERS, CONFIG = 20, 4, LinearConfig()
ENCODER = SimpleNamespace(device=torch.device("cpu"), feature="clusters", resize_size=256, image_size=224)


def draw(count: int, width: int, seed: int) -> Features:
    """Draw clusters in each layer, the deeper the clearer, whose spread falls as a power of the axis."""
    fixed, generator = np.random.default_rng(0), np.random.default_rng(seed)
    scales = np.arange(1, width + 1) ** -0.6
    clearness = np.linspace(0.1, 0.25, LAYERS)[:, None]
    centres = clearness * fixed.normal(size=(CLASSES, LAYERS, width))
    labels = generator.integers(0, CLASSES, count)
    axes, _ = np.linalg.qr(fixed.normal(size=(width, width)))
    cls = (centres[labels] + generator.normal(size=(count, LAYERS, width))) * scales @ axes * 8 + 0.5
    pooled = (0.5 * centres[labels, -1] + generator.normal(size=(count, width))) * scales @ axes * 8 + 0.5
    return Features(torch.from_numpy(cls).half(), torch.from_numpy(pooled).half(), torch.from_numpy(labels), 1.0, 1.0)


def read(features: Features, layers: int, avgpool: bool) -> np.ndarray:
    """One of the grid's four inputs, float32."""
    parts = [features.cls[:, -layers:].flatten(1)]
    if avgpool and features.patch_mean is not None:
        parts.append(features.patch_mean)
    return torch.cat(parts, dim=1).float().numpy()


def fit_separately(train: Features, test: Features) -> float:
    """Test accuracy of the best of 52 fits."""
    labels = train.labels.numpy()
    held_out, rest = (rows.numpy() for rows in split_off(labels, CONFIG.holdout, 0))
    found = []
    for layers in CONFIG.layers:
        for avgpool in CONFIG.avgpool:
            columns = read(train, layers, avgpool)
            for cost in 10 ** np.linspace(-4, 2, 13):
                fit = LogisticRegression(C=cost, max_iter=500).fit(columns[rest], labels[rest])
                found.append((fit.score(columns[held_out], labels[held_out]), -cost, layers, avgpool))
    _, cost, layers, avgpool = max(found)
    chosen = LogisticRegression(C=-cost, max_iter=500).fit(read(train, layers, avgpool), labels)
    return chosen.score(read(test, layers, avgpool), test.labels.numpy())


def main() -> None:
    """Measure, compare, print and record."""
    parser = argparse.ArgumentParser()
    for name, default in (("train", 8000), ("test", 2000), ("width", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    train, test = draw(given.train, given.width, 1), draw(given.test, given.width, 2)
    ours, theirs = [], 0.0
    for turn in range(2):
        start = time.process_time()
        (outcome,) = evaluate_linear(train, test, CLASSES, ENCODER, CONFIG, "clean", 0)
        ours.append(time.process_time() - start)
        if turn == 0:
            start = time.process_time()
            accuracy = fit_separately(train, test)
            theirs = time.process_time() - start
    reached = float(np.mean(outcome.predictions == test.labels.numpy()))
    print(
        f"ours {min(ours):.2f} CPU s, top-1 {reached:.4f}; 52 fits {theirs:.2f} ({theirs / min(ours):.1f} times ours; "
        f"limit 5), top-1 {accuracy:.4f}"
    )
    assert reached >= accuracy - 0.005, "a lower accuracy"
    record(
        "evaluate/linear_grid",
        {
            **vars(given),
            "classes": CLASSES,
            "heads": outcome.notes["heads"],
            "top1": {"ours": reached, "sklearn": accuracy},
            "cpu_s": {"ours": min(ours), "sklearn": theirs},
        },
        [Target("52 heads, times the speed of 52 scikit-learn fits", theirs / min(ours), 5)],
        ("lvd-evaluate", "torch", "scikit-learn", "numpy"),
    )


if __name__ == "__main__":
    main()
