"""Several depth heads trained on the same backbone passes: each batch is encoded once, then every head takes a step.

Backbone passes are divided over processes; heads are trained by every process alike on the gathered tokens.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvd_evaluate import ranks
from lvd_evaluate.classifiers.heads import cosine_decay
from lvd_evaluate.config import DepthConfig
from lvd_evaluate.contracts import Encoder
from lvd_evaluate.dense.depth_heads import TokenMaps, build_head, pick_layers
from lvd_evaluate.dense.depth_images import fit_to_cells
from lvd_evaluate.dense.depth_losses import gradient_loss, sig_loss
from lvd_evaluate.dense.training_state import TrainingState
from lvd_evaluate.errors import InputError
from lvd_evaluate.progress import track

MEAN_STEPS = 100  # first steps with the loss's mean term alone; at most a tenth of a short run
WARMUP_FROM = 1e-3  # of the rate, at the first step
BETAS = (0.9, 0.999)
CYCLE = (0.95, 0.85, 0.3)  # first beta at both ends and at its lowest, and where that is: the released momentum cycle
SMALL_PATCH = 8  # pixels; finer maps of raw pixels are gathered into cells of CELL pixels, or no memory would do
CELL = 16
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenReader:
    """What heads read of an encoder, at the size the images have."""

    encoder: Encoder
    layers: list[int]
    normed: bool
    fit: str  # resize or pad; see fit_to_cells
    precision: str

    @property
    def cell(self) -> int:
        """Pixels that a token stands for.

        Raises:
            InputError: the encoder has no patch tokens.
        """
        size = self.encoder.patch_size
        if not size:
            raise InputError(f"{self.encoder.spec}: gives no patch tokens of a known size, which depth heads read")
        return size if size >= SMALL_PATCH else size * max(CELL // size, 1)

    def read(self, images: Tensor) -> TokenMaps:
        """Tokens of uint8 images [B, 3, h, w], float32.

        Where `cls` is of another width than the patches (raw pixels), the mean of the map takes its place.
        """
        values = fit_to_cells(images.to(self.encoder.device), self.cell, self.fit, self.encoder.mean)
        encoder = self.encoder.at_size(*values.shape[2:])
        wanted = sorted(set(self.layers))
        with torch.autocast(encoder.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            found = dict(zip(wanted, encoder.encode(values, wanted, normed=self.normed), strict=True))
        cls, maps = [], []
        for layer in self.layers:
            patches = found[layer].patches
            assert patches is not None
            patches = _gather_cells(patches.float(), self.cell // (encoder.patch_size or 1))  # [B, h, w, D]
            token = found[layer].cls.float()
            cls.append(token if token.shape[1] == patches.shape[3] else patches.mean(dim=(1, 2)))
            maps.append(patches)
        return TokenMaps(torch.stack(cls, dim=1), torch.stack(maps, dim=1))

    @property
    def sizes(self) -> str:
        """What happens to images whose sides are no multiple of the cell, in words."""
        how = {"resize": "resized to the nearest", "pad": "zero-padded around the centre to the next"}[self.fit]
        return f"{how} multiple of {self.cell} pixels"

    def feature(self, kind: str) -> str:
        """What heads of a kind read, in words; blocks are counted from 1."""
        layers = self.layers[-1:] if kind == "lin.1" else self.layers
        blocks = " ".join(str(layer + 1) for layer in dict.fromkeys(layers))
        norm = "after" if self.normed else "without"
        return f"class and patch tokens, {norm} the final norm, of blocks {blocks}"

    def width(self) -> int:
        """Values per token."""
        side = math.ceil(self.encoder.image_size / self.cell) * self.cell
        return self.read(torch.zeros(1, 3, side, side, dtype=torch.uint8)).patches.shape[-1]


@dataclass
class Candidate:
    """A head of one kind under one learning rate."""

    kind: str
    rate: float
    head: nn.Module
    optimizer: torch.optim.Optimizer


def build_reader(encoder: Encoder, config: DepthConfig, protocol: str) -> TokenReader:
    """`dinov2` pads, and reads tokens without the final norm; `clean` resizes, and reads them with it.

    With it, tokens of every model and layer are of one scale, so that one grid of learning rates is fair to all.
    """
    layers = pick_layers(encoder.num_layers, config.heads)
    released = protocol == "dinov2"
    return TokenReader(encoder, layers, not released, "pad" if released else "resize", config.precision)


def build_candidates(reader: TokenReader, config: DepthConfig, seed: int) -> list[Candidate]:
    """Every kind with every learning rate, those of one kind from the same weights."""
    width = reader.width()
    candidates = []
    for kind in config.heads:
        for rate in config.learning_rates:
            head = build_head(kind, width, config, seed).to(reader.encoder.device)
            optimizer = torch.optim.AdamW(head.parameters(), lr=rate, betas=BETAS, weight_decay=config.weight_decay)
            candidates.append(Candidate(kind, rate, head, optimizer))
    return candidates


def train_candidates(
    candidates: Sequence[Candidate],
    reader: TokenReader,
    batches: Iterator[tuple[Tensor, Tensor]],
    start: int,
    config: DepthConfig,
    protocol: str,
    state: TrainingState,
) -> None:
    """Train from step `start` on.

    Args:
        candidates: changed in place.
        reader: of the encoder.
        batches: this process's part of each batch from `start` on: images uint8 [b, 3, h, w], metres [b, h, w].
        start: steps that the candidates have behind them.
        config: steps, rates and losses.
        protocol: `dinov2` cycles the first beta as the released settings do.
        state: where to save what a killed run goes on from.
    """
    title = f"depth, {len(candidates)} heads on {reader.encoder.name}"
    with track(title, config.steps, "steps", start) as advance:
        for step, (images, depths) in enumerate(batches, start):
            part = reader.read(images)
            tokens = TokenMaps(
                ranks.gather_batch(part.cls, config.batch_size), ranks.gather_batch(part.patches, config.batch_size)
            )
            truth = ranks.gather_batch(depths.to(reader.encoder.device), config.batch_size)
            for candidate in candidates:
                _set_schedule(candidate, step, config, protocol)
                _take_step(candidate, tokens, truth, step, config)
            advance(1)
            if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                save_candidates(state, step + 1, candidates)
    if ranks.world_size() > 1:  # sums on a GPU may differ in their last bits
        for candidate in candidates:
            weights = {name: tensor.cpu() for name, tensor in candidate.head.state_dict().items()}
            candidate.head.load_state_dict(ranks.share(weights))


def _take_step(candidate: Candidate, tokens: TokenMaps, truth: Tensor, step: int, config: DepthConfig) -> None:
    prediction = resize_depth(candidate.head(tokens), truth.shape[1:])
    valid = (truth > config.min_depth) & (truth < config.max_depth)
    loss = sig_loss(prediction, truth, valid, mean_only=step < min(MEAN_STEPS, config.steps // 10))
    if config.gradient_weight:
        loss = loss + config.gradient_weight * gradient_loss(prediction, truth, valid)
    candidate.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(candidate.head.parameters(), config.clip)
    candidate.optimizer.step()


def _set_schedule(candidate: Candidate, step: int, config: DepthConfig, protocol: str) -> None:
    for group in candidate.optimizer.param_groups:
        group["lr"] = candidate.rate * rate_factor(step, config)
        if protocol == "dinov2":
            group["betas"] = (_cycled_beta(step / config.steps), BETAS[1])


def rate_factor(step: int, config: DepthConfig) -> float:
    """Cosine from 1 to 0 over all steps, under a linear warm-up from a thousandth."""
    warm = config.warmup * config.steps
    rise = min(step / warm, 1.0) if warm else 1.0
    return cosine_decay(step, config.steps) * (WARMUP_FROM + (1 - WARMUP_FROM) * rise)


def _cycled_beta(progress: float) -> float:
    ends, lowest, turn = CYCLE
    way = progress / turn if progress < turn else 1 - (progress - turn) / (1 - turn)
    return ends + (lowest - ends) * 0.5 * (1 - math.cos(math.pi * way))


def resize_depth(depth: Tensor, size: Sequence[int]) -> Tensor:
    """Predicted metres [B, h, w] at the truth's size, bilinear."""
    return F.interpolate(depth[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]


def save_candidates(state: TrainingState, step: int, candidates: Sequence[Candidate]) -> None:
    """Everything that the next step depends on."""
    parts = [(candidate.head.state_dict(), candidate.optimizer.state_dict()) for candidate in candidates]
    state.save({"step": step, "candidates": parts})


def load_candidates(state: TrainingState, candidates: Sequence[Candidate]) -> int:
    """Steps that a killed run had taken, its heads and optimizers restored; 0 where there was none."""
    found = state.load()
    if found is None:
        return 0
    for candidate, (head, optimizer) in zip(candidates, found["candidates"], strict=True):
        candidate.head.load_state_dict(head)
        candidate.optimizer.load_state_dict(optimizer)
    logger.info("depth: going on after step %d", found["step"])
    return int(found["step"])


def _gather_cells(patches: Tensor, factor: int) -> Tensor:
    """Squares of factor x factor tokens [B, h, w, D] as one token each, [B, h / f, w / f, f f D]."""
    if factor == 1:
        return patches
    return F.pixel_unshuffle(patches.permute(0, 3, 1, 2), factor).permute(0, 2, 3, 1)
