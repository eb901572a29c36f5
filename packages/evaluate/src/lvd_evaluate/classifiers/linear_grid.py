"""The grid of linear heads: which inputs it reads, how all heads are trained at once, how one is chosen.

Learning rate x depth x pooling (DINOv2, arXiv 2304.07193, B.3): 13 x {1, 4} x {no, yes} = 52 heads. How they are
trained is the caller's: on the cached features of one clean pass (here) or on augmented views (linear_stream.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lvd_evaluate.classifiers.heads import (
    StackedHeads,
    cosine_decay,
    draw_batches,
    draw_weights,
    split_off,
    threads_for_step,
)
from lvd_evaluate.config import LinearConfig
from lvd_evaluate.contracts import Features
from lvd_evaluate.errors import InputError
from lvd_evaluate.progress import track

SCORE_CHUNK = 4096  # images scored at once
CACHED_BATCH = 128  # images, as on one device of the released code: 1,024 are too few updates on small data


@dataclass(frozen=True)
class FeatureSet:
    """Which stored columns a head reads."""

    layers: int
    avgpool: bool

    def read(self, features: Features, rows: Tensor) -> Tensor:
        """Float32 [B, layers D (+ D)]: class tokens of the last blocks, then the mean patch token if `avgpool`."""
        parts = [features.cls[rows, -self.layers :].flatten(1)]
        if self.avgpool:
            assert features.patch_mean is not None
            parts.append(features.patch_mean[rows])
        return torch.cat(parts, dim=1).float()

    def __str__(self) -> str:
        blocks = f"last {self.layers} blocks" if self.layers > 1 else "last block"
        return f"{blocks}{' and mean patch token' if self.avgpool else ''}"


class Training(Protocol):
    """A way to train heads on some rows of train."""

    @property
    def inputs(self) -> str:
        """What heads are trained on, in words."""
        ...

    @property
    def batch_size(self) -> int:
        """Images per update."""
        ...

    @property
    def steps(self) -> int:
        """Updates."""
        ...

    def name(self, protocol: str) -> str:
        """Which procedure this is."""
        ...

    def __call__(
        self, rows: Tensor, sets: Sequence[FeatureSet], rates: Sequence[int]
    ) -> dict[FeatureSet, StackedHeads]:
        """For each input, heads with the learning rates at positions `rates`; which others are trained changes none."""
        ...

    def forget(self) -> None:
        """Delete what was kept in case the training is interrupted."""
        ...


@dataclass(frozen=True)
class CachedTraining:
    """Training on the features of one clean pass; see Training."""

    train: Features
    num_classes: int
    config: LinearConfig
    seed: int
    inputs: ClassVar[str] = "cached features of one clean pass"

    @property
    def batch_size(self) -> int:
        """The setting, else 128."""
        return self.config.batch_size or CACHED_BATCH

    @property
    def steps(self) -> int:
        """Updates: `epochs` passes over train, at least `min_steps`."""
        return num_steps(len(self.train.labels), self.config)

    def name(self, protocol: str) -> str:
        """linear-HEADS-cached-PROTOCOL."""
        return f"linear-{num_heads(self.train, self.config)}-cached-{protocol}"

    def __call__(
        self, rows: Tensor, sets: Sequence[FeatureSet], rates: Sequence[int]
    ) -> dict[FeatureSet, StackedHeads]:
        """Heads per input, one input after the other."""
        return {
            feature_set: train_heads(self.train, rows, feature_set, rates, self.num_classes, self.config, self.seed)
            for feature_set in sets
        }

    def forget(self) -> None:
        """Nothing: it takes seconds."""


@dataclass(frozen=True)
class ChosenHead:
    """The head that selection preferred, and how it scored there."""

    feature_set: FeatureSet
    rate: int  # position in config.learning_rates
    heads: StackedHeads
    position: int  # of this head among `heads`
    accuracy: float  # on the images it was chosen on
    chosen_on: str = ""  # in words

    def logits(self, features: Features) -> Tensor:
        """Scores, float32 [N, C], on the CPU."""
        chunks = torch.arange(len(features.labels)).split(SCORE_CHUNK)
        return torch.cat([self._score(self.feature_set.read(features, chunk)) for chunk in chunks])

    def _score(self, inputs: Tensor) -> Tensor:
        return self.heads.logits(inputs.to(self.heads.weights.device))[:, self.position].cpu()


def fit_head(
    training: Training, train: Features, test: Features, config: LinearConfig, protocol: str, seed: int
) -> ChosenHead:
    """Train the grid and choose one head: `clean` on held-out train, then refit on all; `dinov2` on test, as published.

    Args:
        training: how heads are trained.
        train: clean features of all train rows.
        test: clean features; read only by protocol `dinov2`.
        config: the grid.
        protocol: clean or dinov2.
        seed: of the held-out slice.

    Raises:
        InputError: too few train images to hold one out, or every head has diverged.
    """
    sets, grid = feature_sets(train, config), range(len(config.learning_rates))
    everything = torch.arange(len(train.labels))
    if protocol == "dinov2":
        stacks = training(everything, sets, grid)
        return best_head(stacks, test, torch.arange(len(test.labels)), "the test images themselves")
    if len(train.labels) < 2:
        raise InputError(f"linear: {len(train.labels)} train image leaves none to choose the head on; give 2 or more")
    held_out, rest = split_off(train.labels.cpu().numpy(), config.holdout, seed)
    choice = best_head(training(rest, sets, grid), train, held_out, f"{len(held_out)} held-out train images")
    heads = training(everything, [choice.feature_set], [choice.rate])[choice.feature_set]
    return ChosenHead(choice.feature_set, choice.rate, heads, 0, choice.accuracy, choice.chosen_on)


def best_head(
    stacks: dict[FeatureSet, StackedHeads], judge: Features, judge_rows: Tensor, chosen_on: str
) -> ChosenHead:
    """Of heads trained with every rate of the grid, the one most often right on `judge_rows` of judge.

    Ties, common on small slices, go to the lower cross-entropy; a head that has diverged is never chosen.

    Raises:
        InputError: all have.
    """
    best: tuple[float, float] = (-1.0, 0.0)
    choice: ChosenHead | None = None
    for feature_set, heads in stacks.items():
        for rate, (accuracy, loss) in enumerate(zip(*score_heads(heads, feature_set, judge, judge_rows), strict=True)):
            if (accuracy, -loss) > best:
                best = (accuracy, -loss)
                choice = ChosenHead(feature_set, rate, heads, rate, accuracy, chosen_on)
    if choice is None:
        count = sum(len(heads.biases) for heads in stacks.values())
        raise InputError(f"linear: all {count} heads have diverged; give smaller linear.learning_rates")
    return choice


def train_heads(
    train: Features,
    rows: Tensor,
    feature_set: FeatureSet,
    rates: Sequence[int],
    num_classes: int,
    config: LinearConfig,
    seed: int,
) -> StackedHeads:
    """Heads on cached features with the learning rates at positions `rates`, trained on `rows` of train."""
    batch_size = config.batch_size or CACHED_BATCH
    heads = build_heads(train, feature_set, rates, num_classes, batch_size, config, seed)
    steps = num_steps(len(train.labels), config)
    title = f"linear, {len(rates)} heads on {heads.weights.shape[2]} values"
    with threads_for_step(heads, batch_size), track(title, steps, "steps") as advance:
        for step, chunk in enumerate(draw_order(rows, steps, batch_size, seed)):
            heads.step(feature_set.read(train, chunk), train.labels[chunk], cosine_decay(step, steps))
            advance(1)
    return heads


def build_heads(
    train: Features,
    feature_set: FeatureSet,
    rates: Sequence[int],
    num_classes: int,
    batch_size: int,
    config: LinearConfig,
    seed: int,
) -> StackedHeads:
    """Untrained heads where the features lie; a head's weights do not depend on which others are built."""
    generator = torch.Generator().manual_seed(seed)
    width = feature_set.read(train, torch.arange(1)).shape[1]
    drawn = draw_weights(len(config.learning_rates), num_classes, width, config.init_std, generator)
    base = torch.tensor([config.learning_rates[rate] for rate in rates])
    return StackedHeads(drawn[list(rates)].to(train.cls.device), base * batch_size / 256, config.momentum)


def draw_order(rows: Tensor, steps: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Which of `rows` each batch holds."""
    batches = draw_batches(len(rows), batch_size, steps, torch.Generator().manual_seed(seed + 1))
    return (rows[batch] for batch in batches)


def score_heads(
    heads: StackedHeads, feature_set: FeatureSet, features: Features, rows: Tensor
) -> tuple[list[float], list[float]]:
    """Accuracy and mean cross-entropy of each head on `rows`; a diverged head scores accuracy -1."""
    right = torch.zeros(heads.biases.shape[0], dtype=torch.float64)
    loss = torch.zeros_like(right)
    for chunk in rows.split(SCORE_CHUNK):
        logits, labels = heads.logits(feature_set.read(features, chunk)), features.labels[chunk]  # [B, H, C], [B]
        right += (logits.argmax(dim=2) == labels[:, None]).sum(dim=0).cpu()
        expected = labels[:, None].expand(-1, logits.shape[1])
        loss += F.cross_entropy(logits.transpose(1, 2), expected, reduction="none").double().sum(dim=0).cpu()
    finite = loss.isfinite()
    return torch.where(finite, right / len(rows), -1.0).tolist(), torch.where(finite, loss / len(rows), 0.0).tolist()


def feature_sets(features: Features, config: LinearConfig) -> list[FeatureSet]:
    """The grid's inputs that these features have: shallow encoders lack deep ones, pixels have no patch tokens."""
    depth, pooled = features.cls.shape[1], features.patch_mean is not None
    sets = [
        FeatureSet(n, pool) for n in config.layers for pool in config.avgpool if n <= depth and (pooled or not pool)
    ]
    return sets or [FeatureSet(depth, False)]


def num_heads(features: Features, config: LinearConfig) -> int:
    """Heads of the grid."""
    return len(config.learning_rates) * len(feature_sets(features, config))


def num_steps(num_images: int, config: LinearConfig) -> int:
    """Updates on cached features: `epochs` passes over train, at least `min_steps`."""
    return max(round(config.epochs * num_images / (config.batch_size or CACHED_BATCH)), config.min_steps)


def learned_as_published(config: LinearConfig) -> bool:
    """Whether grid and optimiser are the released ones; batch, passes and steps are told apart by name."""
    published = LinearConfig()
    keys = ("learning_rates", "layers", "avgpool", "momentum", "init_std")
    return all(getattr(config, key) == getattr(published, key) for key in keys)


def to_device(features: Features, device: torch.device) -> Features:
    """The same features where the heads are trained."""
    pooled = features.patch_mean
    return Features(
        features.cls.to(device),
        None if pooled is None else pooled.to(device),
        features.labels.to(device),
        features.seconds,
        features.images_per_second,
    )
