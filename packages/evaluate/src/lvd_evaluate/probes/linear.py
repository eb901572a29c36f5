"""Linear probe: a grid of heads over learning rate, depth and pooling (DINOv2, arXiv 2304.07193, B.3).

Differences from the released procedure, which decodes and encodes 12.8 M augmented crops: heads are trained on the
cached features of one clean pass; and protocol `clean` chooses the head on a held-out slice of train, refits it on all
of train and reads test once. Protocol `dinov2` chooses on test, as the paper does, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lvd_evaluate.config import LinearConfig
from lvd_evaluate.contracts import Encoder, Features, Outcome
from lvd_evaluate.errors import InputError
from lvd_evaluate.heads import StackedHeads, cosine_decay, draw_batches, draw_weights, split_off, threads_for_step
from lvd_evaluate.progress import track

SCORE_CHUNK = 4096  # images scored at once


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


@dataclass(frozen=True)
class Choice:
    """The head that selection preferred, and how it scored there."""

    feature_set: FeatureSet
    rate: int  # position in config.learning_rates
    accuracy: float  # on the images it was chosen on
    head: StackedHeads  # trained on everything but the images it was chosen on


def evaluate_linear(
    train: Features, test: Features, num_classes: int, encoder: Encoder, config: LinearConfig, protocol: str, seed: int
) -> list[Outcome]:
    """One outcome: the chosen head's predictions on test.

    Raises:
        InputError: too few train images to hold one out, or every head has diverged.
    """
    if protocol == "clean" and len(train.labels) < 2:
        raise InputError(f"linear: {len(train.labels)} train image leaves none to choose the head on; give 2 or more")
    train, test = to_device(train, encoder.device), to_device(test, encoder.device)
    everything = torch.arange(len(train.labels))
    if protocol == "clean":
        held_out, rest = split_off(train.labels.cpu().numpy(), config.holdout, seed)
        choice = choose_head(train, rest, train, held_out, num_classes, config, seed)
        heads = train_heads(train, everything, choice.feature_set, [choice.rate], num_classes, config, seed)
        position, chosen_on = 0, f"{len(held_out)} held-out train images"
    else:
        choice = choose_head(train, everything, test, torch.arange(len(test.labels)), num_classes, config, seed)
        heads, position, chosen_on = choice.head, choice.rate, "the test images themselves"
    rows = torch.arange(len(test.labels))
    predictions = torch.cat(
        [
            heads.logits(choice.feature_set.read(test, chunk))[:, position].argmax(dim=1)
            for chunk in rows.split(SCORE_CHUNK)
        ]
    )
    count = len(config.learning_rates) * len(feature_sets(train, config))
    blocks = f"last {choice.feature_set.layers} blocks" if choice.feature_set.layers > 1 else "last block"
    return [
        Outcome(
            setting={
                "learning_rate": config.learning_rates[choice.rate],
                "layers": choice.feature_set.layers,
                "avgpool": choice.feature_set.avgpool,
            },
            predictions=predictions.cpu().numpy(),
            headline=True,
            procedure=f"linear-{count}-cached-{protocol}-resize{encoder.resize_size}-crop{encoder.image_size}",
            feature=f"{encoder.feature}; {blocks}{' and mean patch token' if choice.feature_set.avgpool else ''}",
            notes={
                "heads": count,
                "chosen_on": chosen_on,
                "accuracy_there": choice.accuracy,
                "steps": num_steps(len(train.labels), config),
            },
        )
    ]


def choose_head(
    train: Features,
    rows: Tensor,
    judge: Features,
    judge_rows: Tensor,
    num_classes: int,
    config: LinearConfig,
    seed: int,
) -> Choice:
    """Train every head of the grid on `rows` of train and keep the one most often right on `judge_rows` of judge.

    Ties, common on small slices, go to the lower cross-entropy; a head that has diverged is never chosen.
    """
    best: tuple[float, float] = (-1.0, 0.0)
    choice: Choice | None = None
    grid = list(range(len(config.learning_rates)))
    sets = feature_sets(train, config)
    for feature_set in sets:
        heads = train_heads(train, rows, feature_set, grid, num_classes, config, seed)
        accuracy, loss = score_heads(heads, feature_set, judge, judge_rows)
        for rate in grid:
            if (accuracy[rate], -loss[rate]) > best:
                best = (accuracy[rate], -loss[rate])
                choice = Choice(feature_set, rate, accuracy[rate], heads)
    if choice is None:
        raise InputError(f"linear: all {len(sets) * len(grid)} heads have diverged; give smaller linear.learning_rates")
    return choice


def train_heads(
    train: Features,
    rows: Tensor,
    feature_set: FeatureSet,
    rates: list[int],
    num_classes: int,
    config: LinearConfig,
    seed: int,
) -> StackedHeads:
    """Train heads with the learning rates at positions `rates`; which others are trained changes none."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.Generator().manual_seed(seed + 1)
    width = feature_set.read(train, rows[:1]).shape[1]
    drawn = draw_weights(len(config.learning_rates), num_classes, width, config.init_std, generator)
    base = torch.tensor([config.learning_rates[rate] for rate in rates])
    heads = StackedHeads(drawn[rates].to(train.cls.device), base * config.batch_size / 256, config.momentum)
    steps = num_steps(len(train.labels), config)
    title = f"linear, {len(rates)} heads on {width} values"
    with threads_for_step(heads, config.batch_size), track(title, steps, "steps") as advance:
        for step, batch in enumerate(draw_batches(len(rows), config.batch_size, steps, order)):
            chunk = rows[batch]
            heads.step(feature_set.read(train, chunk), train.labels[chunk], cosine_decay(step, steps))
            advance(1)
    return heads


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


def num_steps(num_images: int, config: LinearConfig) -> int:
    """Updates: `epochs` passes over train, at least `min_steps`."""
    return max(round(config.epochs * num_images / config.batch_size), config.min_steps)


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
