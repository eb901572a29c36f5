"""Monocular depth from frozen tokens: lin.1, lin.4 and DPT heads (DINOv2, arXiv 2304.07193, 7.4 and its released code).

Protocol `clean`: tokens after the final norm; images resized to the nearest multiple of the patch; each head's learning
rate chosen by abs_rel on held-out train images; test read once. Protocol `dinov2`: tokens without the norm, zero-padded
images, the released momentum cycle, the rate chosen by abs_rel on test. The released code also keeps the best of its 48
evaluations on test; here the last step counts, under both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lvd_evaluate import ranks
from lvd_evaluate.classifiers.heads import split_off
from lvd_evaluate.config import DepthConfig
from lvd_evaluate.contracts import DenseSplit, DenseTask, Encoder, Outcome
from lvd_evaluate.dense.depth_images import AugmentDepth, PrepareDepth, crop_size
from lvd_evaluate.dense.depth_metrics import METRICS, compute_depth_metrics, to_measurements, valid_pixels
from lvd_evaluate.dense.depth_pictures import draw_depth
from lvd_evaluate.dense.depth_training import (
    Candidate,
    TokenReader,
    build_candidates,
    build_reader,
    load_candidates,
    resize_depth,
    train_candidates,
)
from lvd_evaluate.dense.loading import PreparedRows, TrainingSamples, prepared_rows, training_batches
from lvd_evaluate.dense.training_state import TrainingState
from lvd_evaluate.errors import InputError
from lvd_evaluate.progress import track
from lvd_evaluate.publish import publish_bytes

CODE_VERSION = 1  # raise when the same inputs would give other numbers
MEDIAN_IMAGES = 64  # train images that the constant guess is made of
RMSE, ABS_REL = list(METRICS).index("rmse"), list(METRICS).index("abs_rel")


def evaluate_depth(
    task: DenseTask,
    encoder: Encoder,
    config: DepthConfig,
    protocol: str,
    seed: int,
    *,
    folder: Path | None = None,
) -> list[Outcome]:
    """One outcome for each kind of head, with the learning rate that selection preferred.

    Args:
        task: of kind depth.
        encoder: frozen, with patch tokens.
        config: settings.
        protocol: clean or dinov2.
        seed: of heads, batches, augmentation and the held-out slice.
        folder: where state is kept while training runs, and pictures of the first test images.

    Raises:
        InputError: too few images, no valid truth to choose on, every head has diverged, a depth is not finite, or no
            patch tokens.
    """
    everything = np.arange(len(task.train))
    if protocol == "clean" and len(everything) < 2:
        raise InputError(f"depth: {len(everything)} train image leaves none to choose the head on; give 2 or more")
    if config.batch_size < ranks.world_size():
        raise InputError(f"depth.batch_size={config.batch_size}: at least one image for each of the processes")
    reader = build_reader(encoder, config, protocol)
    state = TrainingState(folder, describe_training(task, encoder, config, protocol, seed))

    # ---- every head learns from the same backbone passes ------------------------------------------------------------
    held_out, rows = everything[:0], everything
    if protocol == "clean":
        held_out, rows = (part.numpy() for part in split_off(np.zeros(len(everything), int), config.holdout, seed))
    candidates = fit_candidates(task, reader, rows, config, protocol, seed, state)

    # ---- one learning rate per kind, then test -----------------------------------------------------------------------
    prepare = PrepareDepth(config.region, config.short_side)
    constant = median_depth(PreparedRows(task.train, prepare), rows, config)
    clean, all_of_test = protocol == "clean", np.arange(len(task.test))
    split, judges = (task.train, held_out) if clean else (task.test, all_of_test)
    judged = measure(candidates, reader, split, judges, prepare, constant, config)
    chosen = choose_rates(candidates, judged)
    finalists = [candidates[place] for place in chosen]
    if clean:
        values = measure(finalists, reader, task.test, all_of_test, prepare, constant, config)
        chosen_on = f"{len(held_out)} held-out train images"
    else:
        values = judged[:, [*chosen, *(len(candidates) + place for place in chosen), -1]]
        chosen_on = "the test images themselves"
    require_finite(values, reader)

    # ---- what is told ------------------------------------------------------------------------------------------------
    if folder and ranks.is_main():
        draw_pictures(finalists, reader, task.test, prepare, config, folder / "pictures")
    outcomes = [
        describe_outcome(
            candidate, reader, config, protocol, values, place, float(mean_metric(judged[:, chosen[place]], ABS_REL))
        )
        for place, candidate in enumerate(finalists)
    ]
    for outcome in outcomes:
        outcome.notes.update(chosen_on=chosen_on, train_images=len(rows), seed=seed, constant_guess_m=constant)
    state.remove()
    return outcomes


def describe_training(
    task: DenseTask, encoder: Encoder, config: DepthConfig, protocol: str, seed: int
) -> dict[str, Any]:
    """Everything that trained heads depend on."""
    settings = {key: value for key, value in asdict(config).items() if key not in ("workers", "pictures", "eval_crop")}
    return {
        "code_version": CODE_VERSION,
        "task": task.fingerprint,
        "model": encoder.fingerprint,
        "loader": encoder.loader,
        "settings": settings,
        "protocol": protocol,
        "seed": seed,
    }


def fit_candidates(
    task: DenseTask,
    reader: TokenReader,
    rows: np.ndarray,
    config: DepthConfig,
    protocol: str,
    seed: int,
    state: TrainingState,
) -> list[Candidate]:
    """Every head under every learning rate, trained on `rows` of train; goes on where a killed run stopped."""
    first = task.train.read(int(rows[0]))[1].shape
    augment = AugmentDepth(crop_size(first[0], first[1], config), config.region, config.short_side)
    samples = TrainingSamples(task.train, rows, augment, seed)
    candidates = build_candidates(reader, config, seed)
    start = load_candidates(state, candidates)
    if start < config.steps:
        batches = training_batches(samples, config.batch_size, start, config.steps, config.workers)
        train_candidates(candidates, reader, batches, start, config, protocol, state)
    return candidates


def measure(
    candidates: Sequence[Candidate],
    reader: TokenReader,
    split: DenseSplit,
    rows: np.ndarray,
    prepare: PrepareDepth,
    constant: float,
    config: DepthConfig,
) -> np.ndarray:
    """METRICS of every guess on every row, float64 [N, 2 C + 1, 9].

    Guesses are each candidate averaged with its answer to the mirrored image, each without that, and the constant.

    Raises:
        InputError: no pixel of any row counts.
    """
    mine = [int(rows[place]) for place in ranks.my_rows(len(rows))]
    parts: list[Any] = []
    with track(f"depth, {reader.encoder.name}, {split.name}", len(mine), "images") as advance:
        for image, truth in prepared_rows(PreparedRows(split, prepare), mine, config.workers):
            guesses = predict(candidates, reader, image, truth.shape, config).numpy()  # [2 C, H, W]
            valid = valid_pixels(truth.numpy(), config.min_depth, config.max_depth, config.eval_crop)
            known = truth.numpy()[valid]
            values = [compute_depth_metrics(guess[valid], known) for guess in guesses]
            values.append(compute_depth_metrics(np.full(len(known), constant), known))
            parts.append(np.stack(values))
            advance(1)
    found = np.stack(ranks.gather_rows(parts, len(rows)))
    if np.isnan(found[:, -1]).all():
        raise InputError(
            f"depth: none of {len(rows)} {split.name} images has a pixel that counts; look at depth.min_depth, "
            "depth.max_depth, depth.eval_crop and data.depth_scale"
        )
    return found


@torch.no_grad()
def predict(
    candidates: Sequence[Candidate], reader: TokenReader, image: Tensor, size: Sequence[int], config: DepthConfig
) -> Tensor:
    """Metres [2 C, H, W] of an image uint8 [3, h, w]: means over it and its mirror image, then of it alone."""
    tokens = reader.read(torch.stack([image, image.flip(2)]))
    averaged, alone = [], []
    for candidate in candidates:
        depth = candidate.head(tokens).clamp(config.min_depth, config.max_depth)  # [2, h, w]
        averaged.append((depth[0] + depth[1].flip(1)) / 2)
        alone.append(depth[0])
    return torch.cat([resize_depth(guess[None], size) for guess in averaged + alone]).cpu()


def median_depth(samples: PreparedRows, rows: np.ndarray, config: DepthConfig) -> float:
    """Metres that a guesser without eyes would say: the median over some train images of their median depth."""
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), MEDIAN_IMAGES)).astype(int)]
    medians = []
    for row in some:
        truth = samples[int(row)][1].numpy()
        known = truth[(truth > config.min_depth) & (truth < config.max_depth)]
        if len(known):
            medians.append(np.median(known))
    if not medians:
        raise InputError(
            f"depth: no train depth between depth.min_depth={config.min_depth} and depth.max_depth="
            f"{config.max_depth} metres; look at data.depth_scale"
        )
    return float(np.median(medians))


def choose_rates(candidates: Sequence[Candidate], judged: np.ndarray) -> list[int]:
    """Position of the candidate with the lowest mean abs_rel, for each kind in order; never one that has diverged.

    Args:
        candidates: C of them.
        judged: from `measure` of these candidates, [N, 2 C + 1, 9].

    Raises:
        InputError: all candidates of a kind have diverged.
    """
    counted = judged[~np.isnan(judged[:, -1, ABS_REL])]
    errors = counted[:, : len(candidates), ABS_REL].mean(axis=0)  # [C]
    chosen = []
    for kind in dict.fromkeys(candidate.kind for candidate in candidates):
        places = [place for place, found in enumerate(candidates) if found.kind == kind and np.isfinite(errors[place])]
        if not places:
            raise InputError(f"depth: every {kind} head has diverged; give smaller depth.learning_rates")
        chosen.append(min(places, key=lambda place: errors[place]))
    return chosen


def require_finite(values: np.ndarray, reader: TokenReader) -> None:
    """Refuse values [N, G, 9] of test images with depth, the last guess being the constant, that are not numbers.

    Raises:
        InputError: there are some; left out, they would flatter the model.
    """
    lost = np.isnan(values).any(axis=(1, 2)) & ~np.isnan(values[:, -1, ABS_REL])
    if lost.any():
        raise InputError(f"{reader.encoder.name}: depth is not finite on {int(lost.sum())} of {len(lost)} test images")


def mean_metric(values: np.ndarray, metric: int) -> float:
    """Mean over images [N, 9] that have valid pixels."""
    return float(np.nanmean(values[:, metric]))


def draw_pictures(
    finalists: Sequence[Candidate],
    reader: TokenReader,
    split: DenseSplit,
    prepare: PrepareDepth,
    config: DepthConfig,
    folder: Path,
) -> None:
    """PNGs of the first test images: image, truth, prediction of the last kind of head, bar in metres."""
    for row in range(min(config.pictures, len(split))):
        image, truth = PreparedRows(split, prepare)[row]
        guess = predict(finalists, reader, image, truth.shape, config)[len(finalists) - 1].numpy()
        panel = PrepareDepth(config.region, None)(*split.read(row))[0].permute(1, 2, 0).numpy()
        shown = np.where(truth.numpy() < config.max_depth, truth.numpy(), 0)
        publish_bytes(folder / f"{row:04d}-{finalists[-1].kind}.png", draw_depth(panel, shown, guess))


def describe_outcome(
    candidate: Candidate,
    reader: TokenReader,
    config: DepthConfig,
    protocol: str,
    values: np.ndarray,
    place: int,
    abs_rel: float,
) -> Outcome:
    """What a finalist says, and how it came about; `values` from `measure` of all finalists."""
    count = (values.shape[1] - 1) // 2
    rates = len(config.learning_rates)
    return Outcome(
        setting={"head": candidate.kind},
        headline=True,
        procedure=name_procedure(candidate.kind, config, protocol),
        measurements=to_measurements(values[:, place]),
        feature=reader.feature(candidate.kind),
        preprocessing=f"{f'short side {config.short_side}' if config.short_side else 'own size'}, {reader.sizes}",
        notes={
            "learning_rate": candidate.rate,
            "heads": len(config.heads) * rates,
            "abs_rel_there": abs_rel,
            "steps": config.steps,
            "batch_size": config.batch_size,
            "eval_crop": config.eval_crop,
            "mirroring": "averaged with the prediction of the mirrored image",
            "range_m": [config.min_depth, config.max_depth],
            "rmse_without_mirroring": mean_metric(values[:, count + place], RMSE),
            "constant_guess_rmse": mean_metric(values[:, -1], RMSE),
            "constant_guess_abs_rel": mean_metric(values[:, -1], ABS_REL),
        },
    )


def name_procedure(kind: str, config: DepthConfig, protocol: str) -> str:
    """Everything that a published number must share with ours; `custom` where settings without a name differ."""
    count = len(config.learning_rates)
    rates = f"{count}rates" if count > 1 else f"rate{config.learning_rates[0]:g}"
    crop = "x".join(map(str, config.crop)) or "whole"
    parts = [
        f"depth-{kind}-{protocol}-{rates}-{config.steps}x{config.batch_size}",
        f"to{config.max_depth:g}m-crop{crop}-{config.region}-{config.eval_crop}-{config.short_side or 'native'}-flip",
    ]
    unnamed = ("min_depth", "bins", "warmup", "weight_decay", "clip", "gradient_weight")
    if any(getattr(config, key) != getattr(DepthConfig(), key) for key in unnamed):
        parts.append("custom")
    return "-".join(parts)
