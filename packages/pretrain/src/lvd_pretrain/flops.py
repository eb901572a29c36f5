"""How much arithmetic a training step asks for, from a recipe's shapes alone.

Counted are the matrix products of the plain algorithm, 2 m n k each, twice more in the backward pass: what fused losses
and activation checkpointing compute again is not counted, so a faster way to the same gradients scores higher.
Elementwise work is left out, as everywhere in the field.
"""

from __future__ import annotations

from collections.abc import Sequence

from lvd_pretrain.config import HeadConfig, PretrainConfig
from lvd_pretrain.masks import mask_counts

Lists = Sequence[tuple[int, int]]  # (samples, tokens of a sample) per crop list


def crop_lists(config: PretrainConfig) -> tuple[Lists, Lists]:
    """Samples and tokens of the global crops, then of the local ones."""
    extra, patch = 1 + config.model.registers, config.model.patch_size
    tokens = [extra + (size // patch) ** 2 for size in (config.crops.global_size, config.crops.local_size)]
    batch = config.optim.batch_size
    return [(2 * batch, tokens[0])], [(config.crops.local_number * batch, tokens[1])]


def blocks_flops(config: PretrainConfig, lists: Lists, drop_path: float) -> float:
    """Forward pass of all blocks; a branch computes max(int(b * (1 - rate)), 1) of a list's b samples."""
    width, depth, _ = config.model.dims
    hidden = int(width * config.model.mlp_ratio)
    swiglu = (int(hidden * 2 / 3) + 7) // 8 * 8
    weights = 4 * width**2 + (3 * width * swiglu if config.model.ffn == "swiglu" else 2 * width * hidden)
    kept = [(max(int(samples * (1 - drop_path)), 1) if drop_path else samples, length) for samples, length in lists]
    linear = sum(2 * samples * length * weights for samples, length in kept)
    attention = sum(4 * samples * length**2 * width for samples, length in kept)
    return float(depth * (linear + attention))


def embedding_flops(config: PretrainConfig, lists: Lists) -> float:
    """Forward pass of the patch embedding."""
    width, patch, extra = config.model.dims[0], config.model.patch_size, 1 + config.model.registers
    return float(sum(2 * samples * (length - extra) * 3 * patch**2 * width for samples, length in lists))


def head_flops(config: HeadConfig, width: int, rows: int) -> float:
    """Forward pass of a projection head, prototypes included."""
    hidden, bottleneck = config.hidden, config.bottleneck
    weights = width * hidden + hidden**2 + hidden * bottleneck + bottleneck * config.prototypes
    return 2.0 * rows * weights


def step_flops(config: PretrainConfig) -> dict[str, float]:
    """Floating-point operations of one rank's step, by part: student, teacher, heads of both, losses."""
    large, small = crop_lists(config)
    small = small if config.crops.local_number else []
    width, batch, views = config.model.dims[0], config.optim.batch_size, 2 + config.crops.local_number
    masked = sum(mask_counts(2 * batch, (large[0][1] - 1 - config.model.registers), *_mask_settings(config)))
    patch_head = config.ibot_head if config.loss.ibot_separate_head else config.dino_head
    cls_student, cls_teacher = (head_flops(config.dino_head, width, rows * batch) for rows in (views, 2))
    patches = head_flops(patch_head, width, masked) if config.loss.ibot else 0.0
    both = [*large, *small]
    pairs = 2 * 2 * views * batch * config.dino_head.prototypes  # targets times log-probabilities
    neighbours = 2 * 2 * batch**2 * width if config.loss.koleo else 0  # searched without a gradient
    return {
        # The images need no gradient: the embedding's backward pass is one product.
        "student": 3 * blocks_flops(config, both, config.model.drop_path) + 2 * embedding_flops(config, both),
        "teacher": blocks_flops(config, large, 0.0) + embedding_flops(config, large),
        "heads": 3 * (cls_student + patches) + cls_teacher + patches,
        "losses": float(2 * pairs + neighbours),
    }


def recomputed_flops(config: PretrainConfig) -> float:
    """What a rank's step computes a second time: the student's blocks, with activation checkpointing."""
    if not config.optim.activation_checkpointing:
        return 0.0
    large, small = crop_lists(config)
    return blocks_flops(config, [*large, *(small if config.crops.local_number else [])], config.model.drop_path)


def _mask_settings(config: PretrainConfig) -> tuple[float, tuple[float, float]]:
    return config.masks.probability, config.masks.ratio
