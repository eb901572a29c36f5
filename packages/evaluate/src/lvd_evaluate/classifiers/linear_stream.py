"""Linear heads trained on augmented views, encoded as they come (DINOv2, arXiv 2304.07193, B.3); nothing is cached.

Each view is drawn from (seed, sample number). Every process encodes its share of a batch and trains all heads on the
whole of it, so that neither the number of processes nor that of threads changes a draw, and a killed training goes on
from its last saved step.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lvd_evaluate import ranks
from lvd_evaluate.classifiers.heads import StackedHeads, cosine_decay
from lvd_evaluate.classifiers.linear_grid import (
    CachedTraining,
    FeatureSet,
    Training,
    build_heads,
    draw_order,
    learned_as_published,
    num_heads,
)
from lvd_evaluate.classifiers.views import random_view
from lvd_evaluate.config import FeaturesConfig, LinearConfig
from lvd_evaluate.contracts import Encoder, Features, Split
from lvd_evaluate.errors import InputError
from lvd_evaluate.features import describe_pass, encode_batch
from lvd_evaluate.images import decode_rgb
from lvd_evaluate.progress import track
from lvd_evaluate.publish import publish_bytes

PUBLISHED_BATCH = 1024  # images, over eight devices
SMALLEST_BATCH = 16
READ_AHEAD = 3  # batches decoded while one is encoded


@dataclass(frozen=True)
class StreamedTraining:
    """Training on views of train's images; see linear_grid.Training."""

    encoder: Encoder
    split: Split
    train: Features  # clean ones: for widths and labels
    num_classes: int
    config: LinearConfig
    passes: FeaturesConfig
    seed: int
    folder: Path | None  # for the state of unfinished trainings
    inputs: ClassVar[str] = "augmented views: random resized crop (8 to 100 % of the area, bicubic), horizontal flip"

    @property
    def batch_size(self) -> int:
        """The setting; else the paper's 1,024, halved while `epochs` passes give fewer than `min_steps` updates."""
        samples, size = self.config.epochs * len(self.split), PUBLISHED_BATCH
        while size > SMALLEST_BATCH and samples / size < self.config.min_steps:
            size //= 2
        return self.config.batch_size or size

    @property
    def steps(self) -> int:
        """Updates: `epochs` passes over train, at least `min_steps`."""
        return max(round(self.config.epochs * len(self.split) / self.batch_size), self.config.min_steps)

    def name(self, protocol: str) -> str:
        """linear-52-augmented-dinov2 if batch, number of samples, grid and optimiser are the paper's."""
        name = f"linear-{num_heads(self.train, self.config)}-augmented-{protocol}"
        same_samples = self.config.epochs == LinearConfig().epochs and self.steps > self.config.min_steps
        if same_samples and self.batch_size == PUBLISHED_BATCH and learned_as_published(self.config):
            return name
        return f"{name}-{self.steps}x{self.batch_size}{'' if learned_as_published(self.config) else '-custom'}"

    def __call__(
        self, rows: Tensor, sets: Sequence[FeatureSet], rates: Sequence[int]
    ) -> dict[FeatureSet, StackedHeads]:
        """Heads per input, all trained in one pass."""
        stacks = {
            feature_set: build_heads(
                self.train, feature_set, rates, self.num_classes, self.batch_size, self.config, self.seed
            )
            for feature_set in sets
        }
        state = self._state_file(rows, sets, rates)
        done = _load_state(state, stacks)
        order = itertools.islice(draw_order(rows, self.steps, self.batch_size, self.seed), done, None)
        device, title = self.train.cls.device, f"linear, {len(sets) * len(rates)} heads on augmented views"
        with track(title, self.steps, "steps", done) as advance:
            for step, (chunk, views) in enumerate(self._read_ahead(order, done), start=done):
                batch = self._encode(views, chunk)
                for feature_set, heads in stacks.items():
                    inputs = feature_set.read(batch, torch.arange(len(chunk)))
                    heads.step(inputs, batch.labels.to(device), cosine_decay(step, self.steps))
                advance(1)
                if (step + 1) % self.config.save_every == 0 or step + 1 == self.steps:
                    _save_state(state, stacks, step + 1)
        return stacks

    def forget(self) -> None:
        """Delete the states: what they were kept for is finished."""
        if self.folder and ranks.is_main():
            for file in self.folder.glob("views-*.pt"):
                file.unlink()

    def _encode(self, views: Tensor, chunk: Tensor) -> Features:
        """Features of the whole batch, on every process, from this process's views uint8 [n, 3, S, S]."""
        clean = self.train
        columns = {"cls": [clean.cls.new_zeros(0, *clean.cls.shape[1:], dtype=torch.float32)]}
        if clean.patch_mean is not None:
            columns["patch_mean"] = [clean.patch_mean.new_zeros(0, *clean.patch_mean.shape[1:], dtype=torch.float32)]
        for images in views.split(self.passes.batch_size) if len(views) else ():
            for name, column in encode_batch(self.encoder, images, self.passes.precision).items():
                columns[name].append(column.to(clean.cls.device))
        whole = {name: ranks.gather_batch(torch.cat(parts), len(chunk)) for name, parts in columns.items()}
        labels = clean.labels[chunk.to(clean.labels.device)]
        return replace(clean, cls=whole["cls"], patch_mean=whole.get("patch_mean"), labels=labels)

    def _read_ahead(self, order: Iterator[Tensor], first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of each batch and this process's views of them, decoded by threads (Pillow frees the GIL)."""
        size = self.encoder.image_size

        def draw(row: int, sample: int) -> np.ndarray:
            try:
                image = decode_rgb(self.split.read(row, row + 1)[0])
            except InputError as error:
                raise InputError(f"train image {row} (sha256 {self.split.ids[row][:12]}) {error}") from error
            return random_view(image, size, np.random.default_rng((self.seed, sample)))

        with ThreadPoolExecutor(self.passes.threads or ranks.my_cores()) as pool:
            waiting: deque[tuple[Tensor, list[Future[np.ndarray]]]] = deque()
            try:
                for number, chunk in enumerate(order, start=first):
                    mine = ranks.my_rows(len(chunk))
                    jobs = [pool.submit(draw, int(chunk[i]), number * self.batch_size + i) for i in mine]
                    waiting.append((chunk, jobs))
                    if len(waiting) > READ_AHEAD:
                        yield _collect(*waiting.popleft(), size)
                while waiting:
                    yield _collect(*waiting.popleft(), size)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _state_file(self, rows: Tensor, sets: Sequence[FeatureSet], rates: Sequence[int]) -> Path | None:
        identity = describe_pass(self.encoder, self.split, self.passes) | {
            "trained_on": hashlib.sha256(rows.numpy().tobytes()).hexdigest(),
            "heads": [str(feature_set) for feature_set in sets] + [str(rate) for rate in rates],
            "classes": self.num_classes,
            "settings": asdict(self.config),
            "seed": self.seed,
        }
        name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / f"views-{name}.pt" if self.folder else None


def find_training(
    train: Features,
    num_classes: int,
    encoder: Encoder,
    config: LinearConfig,
    protocol: str,
    seed: int,
    split: Split | None,
    folder: Path | None,
    passes: FeaturesConfig | None,
) -> Training:
    """How heads are trained under `linear.augment` and the protocol; arguments as of `probes.linear.evaluate_linear`.

    Raises:
        ValueError: augmented views are wanted and `split` is missing.
    """
    wanted = config.augment.lower()
    if wanted == "false" or (wanted == "auto" and protocol == "clean"):
        return CachedTraining(train, num_classes, config, seed)
    if split is None:
        raise ValueError("heads that see augmented views need the train images: pass train_split")
    return StreamedTraining(encoder, split, train, num_classes, config, passes or FeaturesConfig(), seed, folder)


def _collect(chunk: Tensor, jobs: list[Future[np.ndarray]], size: int) -> tuple[Tensor, Tensor]:
    if not jobs:
        return chunk, torch.empty(0, 3, size, size, dtype=torch.uint8)
    return chunk, torch.from_numpy(np.stack([job.result() for job in jobs]))  # [n, 3, S, S]


def _save_state(file: Path | None, stacks: dict[FeatureSet, StackedHeads], done: int) -> None:
    if file and ranks.is_main():
        buffer = io.BytesIO()
        torch.save({"done": done, "heads": [heads.state() for heads in stacks.values()]}, buffer)
        publish_bytes(file, buffer.getvalue())


def _load_state(file: Path | None, stacks: dict[FeatureSet, StackedHeads]) -> int:
    """Set heads back to where an earlier run left them; how many steps that is."""
    content = ranks.share(file.read_bytes() if file and ranks.is_main() and file.is_file() else None)
    if content is None:
        return 0
    saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    for heads, tensors in zip(stacks.values(), saved["heads"], strict=True):
        for ours, theirs in zip(heads.state(), tensors, strict=True):
            ours.copy_(theirs)
    return int(saved["done"])
