"""Attention over packed sequences: crops of different sizes lie one after another in one token matrix.

Every Linear and LayerNorm of the network runs once on all tokens; only attention has to keep samples apart. This is
the plain form, one scaled-dot-product call per crop list: exact, on any device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Run(NamedTuple):
    """`samples` consecutive sequences of `length` tokens each."""

    samples: int
    length: int


Layout = Sequence[Run]


def unpack(packed: Tensor, layout: Layout) -> list[Tensor]:
    """[T, ...] -> one [samples, length, ...] view per run."""
    parts = packed.split([run.samples * run.length for run in layout])
    return [part.unflatten(0, run) for part, run in zip(parts, layout, strict=True)]


def packed_attention(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> Tensor:
    """Softmax attention within each sample of a packed batch.

    Args:
        query: [T, heads, head_dim], as are key and value.
        layout: runs of equal-length samples, T tokens in all.

    Returns:
        [T, heads, head_dim].
    """
    outputs = []
    for q, k, v in zip(unpack(query, layout), unpack(key, layout), unpack(value, layout), strict=True):
        attended = _attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        outputs.append(attended.transpose(1, 2).flatten(0, 1))  # [samples * length, heads, head_dim]
    return torch.cat(outputs)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled-dot-product attention; on a CPU in float32, where bf16's backward pass takes ten times as long."""
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float()).to(query.dtype)
