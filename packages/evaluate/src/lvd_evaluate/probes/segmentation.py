"""Semantic segmentation: linear heads on frozen patch tokens (DINOv2, arXiv 2304.07193, 7.4 and Table 10).

Protocol `dinov2` follows the original configs: one head, windows of 512 px in the middle of zeros, cross-entropy over
all pixels. Protocol `clean` sees whole patches only, so no map is shifted against its image, lets void pixels count
neither for nor against, trains the heads of a sweep together and keeps the one that is best on held-out train images.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np

from lvd_evaluate import ranks
from lvd_evaluate.config import SegmentationConfig, SegmentationSizes
from lvd_evaluate.contracts import DenseTask, Encoder, Outcome
from lvd_evaluate.dense.pictures import colour_classes, side_by_side
from lvd_evaluate.dense.segmentation_heads import SegmentationHeads
from lvd_evaluate.dense.segmentation_metrics import mean_iou, measure_pixels
from lvd_evaluate.dense.segmentation_training import Plan, measure_heads, predict_scores, train_heads
from lvd_evaluate.dense.segmentation_views import Prepare
from lvd_evaluate.dense.training_state import TrainingState
from lvd_evaluate.errors import InputError
from lvd_evaluate.publish import publish_bytes

PUBLISHED_RATES = (1e-3, 1e-4)  # learning rate and weight decay of the original configs


def evaluate_segmentation(
    task: DenseTask,
    encoder: Encoder,
    config: SegmentationConfig,
    protocol: str,
    seed: int,
    *,
    folder: Path | None = None,
) -> list[Outcome]:
    """One outcome per variant: mIoU, pixel accuracy and mean class accuracy of the chosen head on test.

    Args:
        task: of kind segmentation.
        encoder: with patch tokens.
        config: sizes, schedule and sweep.
        protocol: clean or dinov2.
        seed: of weights, order, augmentation and the held-out slice.
        folder: for the state of training, which a run started again goes on from, and for pictures/.

    Raises:
        InputError: the encoder has no patch tokens, there are too few train images to hold one out, fewer images in a
            batch than processes, or every head has diverged.
    """
    if encoder.patch_size is None:
        raise InputError(f"{encoder.name}: has no patch tokens, which segmentation reads")
    if config.batch_size < ranks.world_size():
        raise InputError(f"segmentation.batch_size={config.batch_size}: fewer than the {ranks.world_size()} processes")
    if protocol == "clean" and len(task.train) < 2:
        raise InputError(f"segmentation: {len(task.train)} train image leaves none to choose the head on")
    clean = protocol == "clean"
    rates = config.learning_rates or ((1e-4, 3e-4, 1e-3) if clean else PUBLISHED_RATES[:1])
    decays = config.weight_decays or ((1e-4, 1e-3) if clean else PUBLISHED_RATES[1:])
    grid = list(itertools.product(rates, decays))
    return [
        _evaluate_variant(
            Plan(task, encoder, config, variant, _fit(getattr(config, variant), encoder, clean), grid, protocol, seed),
            folder,
        )
        for variant in dict.fromkeys(config.variants)
    ]


def _fit(sizes: SegmentationSizes, encoder: Encoder, clean: bool) -> SegmentationSizes:
    """Whole patches, if clean."""
    patch = encoder.patch_size
    assert patch
    if not clean:
        return sizes
    square, short = (max(round(side / patch), 1) * patch for side in (sizes.crop, sizes.resize))
    return replace(sizes, crop=square, resize=short, stride=min(sizes.stride, square))


def _evaluate_variant(plan: Plan, folder: Path | None) -> Outcome:
    order = np.random.default_rng(plan.seed).permutation(len(plan.task.train))
    clean = plan.protocol == "clean"
    count = min(max(round(plan.config.holdout * len(order)), 1), len(order) - 1) if clean else 0
    state = TrainingState(folder, plan.identity)
    heads = train_heads(plan, np.sort(order[count:]), state)
    everything = range(len(plan.grid))
    if clean:
        judged = measure_heads(plan, heads, everything, plan.task.train, np.sort(order[:count]).tolist())
        chosen, score = _choose(judged)
        counts = measure_heads(plan, heads, [chosen], plan.task.test, range(len(plan.task.test)))[:, 0]
        chosen_on = f"{count} held-out train images"
    else:
        judged = measure_heads(plan, heads, everything, plan.task.test, range(len(plan.task.test)))
        chosen, score = _choose(judged)
        counts, chosen_on = judged[:, chosen], "the test images themselves"
    if folder is not None and ranks.is_main():
        draw_pictures(plan, heads, chosen, folder / "pictures")
    state.remove()
    rate, decay = plan.grid[chosen]
    sizes, patch = plan.sizes, plan.encoder.patch_size
    layers = min(sizes.layers, plan.encoder.num_layers)
    return Outcome(
        setting={"variant": plan.variant, "learning_rate": rate, "weight_decay": decay},
        headline=True,
        procedure=_procedure(plan),
        measurements=measure_pixels(counts),
        feature=f"patch tokens of the last {f'{layers} blocks' if layers > 1 else 'block'}, {patch} px each",
        notes={
            "heads": len(plan.grid),
            "chosen_on": chosen_on if len(plan.grid) > 1 else "nothing: there was one head",
            "miou_there": score,
            "steps": plan.config.steps,
            "batch_size": plan.config.batch_size,
            "trained_on": f"{len(order) - count} train images",
            "resize": sizes.resize,
            "crop": sizes.crop,
            "stride": sizes.stride,
            "seed": plan.seed,
        },
    )


def _procedure(plan: Plan) -> str:
    """Exact: sizes, updates and heads by number, and by name whatever else is not as in the original configs."""
    sizes, config = plan.sizes, plan.config
    ratios = "".join(f"-x{ratio:g}" for ratio in sizes.ratios) + ("-flip" if sizes.flip else "")
    published = SegmentationConfig()
    changed = [key for key in ("warmup", "max_share", "init_std") if getattr(config, key) != getattr(published, key)]
    of_variant = getattr(published, plan.variant)
    if sizes.layers != of_variant.layers:
        changed.append("layers")
    if tuple(sizes.scales) != tuple(of_variant.scales):
        changed.append("scales")
    if len(plan.grid) == 1 and plan.grid != [PUBLISHED_RATES]:
        changed.append("rates")
    return (
        f"segmentation-{plan.variant}-{len(plan.grid)}-{plan.protocol}-steps{config.steps}x{config.batch_size}"
        f"-resize{sizes.resize}-crop{sizes.crop}-stride{sizes.stride}{ratios}"
        + (f"-other-{'-'.join(changed)}" if changed else "")
    )


def _choose(counts: np.ndarray) -> tuple[int, float]:
    """The head of counts [N, H, K, 3] with the highest mIoU, the first among equals."""
    scores = mean_iou(counts.sum(axis=0))  # [H]
    return int(scores.argmax()), float(scores.max())


def draw_pictures(plan: Plan, heads: SegmentationHeads, chosen: int, folder: Path) -> None:
    """Image, truth and prediction of the first test images."""
    split, classes = plan.task.test, len(plan.task.classes)
    for row in range(min(plan.config.pictures, len(split))):
        image, target = split.read(row)
        images, truth = Prepare(plan.sizes)(image, target)
        scores = predict_scores(plan, heads, [chosen], images, (truth.shape[0], truth.shape[1]))
        prediction = scores[0].argmax(dim=0).cpu().numpy()
        panels = [np.asarray(image), colour_classes(target, classes), colour_classes(prediction, classes)]
        publish_bytes(folder / f"{plan.variant}-{row:04d}.png", side_by_side(panels))
