"""Linear segmentation heads on an encoder: one backbone pass per batch trains all, another measures all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lvd_evaluate import ranks
from lvd_evaluate.config import SegmentationConfig, SegmentationSizes
from lvd_evaluate.contracts import DenseSplit, DenseTask, Encoder
from lvd_evaluate.dense.loading import PreparedRows, TrainingSamples, prepared_rows, training_batches
from lvd_evaluate.dense.segmentation_heads import SegmentationHeads, set_rates, train_step
from lvd_evaluate.dense.segmentation_metrics import count_pixels
from lvd_evaluate.dense.segmentation_views import Augment, Prepare
from lvd_evaluate.dense.training_state import TrainingState
from lvd_evaluate.dense.windows import average_windows, read_patches, upsample
from lvd_evaluate.errors import InputError
from lvd_evaluate.progress import track

CODE_VERSION = 1  # raise when the same inputs would give other numbers


@dataclass(frozen=True)
class Plan:
    """Everything that one variant's training and measuring depend on."""

    task: DenseTask
    encoder: Encoder
    config: SegmentationConfig
    variant: str
    sizes: SegmentationSizes
    grid: list[tuple[float, float]]  # learning rate and weight decay of each head
    protocol: str
    seed: int

    @property
    def identity(self) -> dict[str, Any]:
        """For the name of the saved state."""
        free = ("workers", "save_every", "pictures", "variants")  # change no number of a variant
        return {
            "code": CODE_VERSION,
            "task": self.task.fingerprint,
            "encoder": [self.encoder.fingerprint, self.encoder.loader],
            "config": {key: value for key, value in asdict(self.config).items() if key not in free},
            "variant": self.variant,
            "grid": self.grid,
            "protocol": self.protocol,
            "seed": self.seed,
        }


def train_heads(plan: Plan, rows: np.ndarray, state: TrainingState) -> SegmentationHeads:
    """Heads of the whole grid, trained together on these rows of train; goes on where `state` stopped."""
    encoder, config, sizes = plan.encoder, plan.config, plan.sizes
    colour = tuple(round(255 * value) for value in encoder.mean)
    samples = TrainingSamples(plan.task.train, rows, Augment(sizes, config.max_share, colour), plan.seed)
    blank = torch.zeros(1, 3, sizes.crop, sizes.crop, dtype=torch.uint8)
    width = read_patches(encoder, blank, sizes.layers, config.precision).shape[3]
    heads = SegmentationHeads(len(plan.grid), width, len(plan.task.classes), config.init_std, plan.seed)
    heads = heads.to(encoder.device).train()
    optimizer = torch.optim.AdamW(heads.groups(*zip(*plan.grid, strict=True)))
    start = 0
    if saved := state.load():
        heads.load_state_dict(saved["heads"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["step"]
    title = f"segmentation, {len(plan.grid)} {plan.variant} heads on {width} values"
    batches = training_batches(samples, config.batch_size, start, config.steps, config.workers)
    with track(title, config.steps, "steps", start) as advance:
        for step, (images, targets) in enumerate(batches, start):
            tokens = read_patches(encoder, images, sizes.layers, config.precision)  # [b, h, w, C]
            tokens = ranks.gather_batch(tokens, config.batch_size)
            targets = ranks.gather_batch(targets.to(encoder.device), config.batch_size)
            set_rates(optimizer, step, config.steps, round(config.warmup * config.steps))
            train_step(heads, optimizer, tokens, targets, void_counts=plan.protocol == "dinov2")
            if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                state.save({"step": step + 1, "heads": heads.state_dict(), "optimizer": optimizer.state_dict()})
            advance(1)
    return heads.eval()


def measure_heads(
    plan: Plan, heads: SegmentationHeads, which: Sequence[int], split: DenseSplit, rows: Sequence[int]
) -> np.ndarray:
    """Pixel counts int64 [N, H, K, 3] of the heads numbered, at each target's own size; images divided over processes.

    Raises:
        InputError: every head has diverged.
    """
    mine = [rows[place] for place in ranks.my_rows(len(rows))]
    parts: list[Any] = []
    with track(f"segmentation, {split.name}", len(mine), "images") as advance:
        for images, target in prepared_rows(PreparedRows(split, Prepare(plan.sizes)), mine, plan.config.workers):
            parts.append(_count_image(plan, heads, which, images, target))
            advance(1)
    counts = np.stack(ranks.gather_rows(parts, len(rows)))
    if not counts[..., 1].any():
        raise InputError("segmentation: all heads have diverged; give smaller segmentation.learning_rates")
    return counts


def _count_image(
    plan: Plan, heads: SegmentationHeads, which: Sequence[int], images: list[Tensor], target: Tensor
) -> np.ndarray:
    scores = predict_scores(plan, heads, which, images, (target.shape[0], target.shape[1]))
    truth, classes = target.to(scores.device), len(plan.task.classes)
    found = []
    for score in scores:
        counts = count_pixels(score.argmax(dim=0), truth, classes)
        if not score.isfinite().all():
            counts[:, :2] = 0  # nothing was said: all that is there is missed, not left out
        found.append(counts)
    return np.stack(found)


@torch.inference_mode()
def predict_scores(
    plan: Plan, heads: SegmentationHeads, which: Sequence[int], images: list[Tensor], size: tuple[int, int]
) -> Tensor:
    """Scores [H, K, *size] of one image given at every ratio: logits, or mean probabilities if there are several."""
    encoder, sizes = plan.encoder, plan.sizes
    classes = len(plan.task.classes)

    def predict(windows: Tensor) -> Tensor:
        parts = windows.split(plan.config.batch_size)  # what fitted in training fits here
        tokens = [read_patches(encoder, part, sizes.layers, plan.config.precision) for part in parts]
        return heads(torch.cat(tokens), which).flatten(1, 2)  # [N, H K, h, w]

    views = [(image, mirrored) for image in images for mirrored in ([False, True] if sizes.flip else [False])]
    total = torch.zeros(len(which), classes, *size, device=encoder.device)
    for image, mirrored in views:
        view = image.flip(2) if mirrored else image
        logits = average_windows(view, sizes.crop, sizes.stride, encoder.mean, predict)  # [H K, h, w]
        logits = upsample((logits.flip(2) if mirrored else logits)[None], size)[0].unflatten(0, (len(which), classes))
        total += logits.softmax(dim=1) if len(views) > 1 else logits
    return total / len(views)
