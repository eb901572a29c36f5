"""Attention over packed sequences: crops of different sizes lie one after another in one token matrix.

Every Linear and LayerNorm of the network runs once on all tokens; only attention has to keep samples apart. Three
kernels do: `xformers` and `varlen` (torch.nn.attention.varlen) take the packed tokens of 16 bits on a GPU in one call,
`sdpa` is the plain form, one scaled-dot-product call per crop list: exact, on any device, and the others' oracle.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lvd_pretrain.errors import InputError


class Run(NamedTuple):
    """`samples` consecutive sequences of `length` tokens each."""

    samples: int
    length: int


Layout = Sequence[Run]


def unpack(packed: Tensor, layout: Layout) -> list[Tensor]:
    """[T, ...] -> one [samples, length, ...] view per run."""
    parts = packed.split([run.samples * run.length for run in layout])
    return [part.unflatten(0, run) for part, run in zip(parts, layout, strict=True)]


def check_attention(name: str) -> None:
    """Whether a kernel that was asked for by name can run here.

    Raises:
        InputError: it needs a GPU or a package that is not there.
    """
    if name in ("auto", "sdpa"):
        return
    if not torch.cuda.is_available():
        raise InputError(f"model.attention={name} runs on CUDA devices, and there is none: take auto or sdpa")
    if name == "xformers" and not has_xformers():
        raise InputError("model.attention=xformers: the package xformers is not installed: install it, or take auto")


@lru_cache(maxsize=1)
def has_xformers() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("xformers") is not None


def packed_attention(query: Tensor, key: Tensor, value: Tensor, layout: Layout, name: str = "auto") -> Tensor:
    """Softmax attention within each sample of a packed batch.

    Args:
        query: [T, heads, head_dim], as are key and value.
        layout: runs of equal-length samples, T tokens in all.
        name: `xformers`, `varlen`, `sdpa`, or `auto`, the first of them that can. Float32 tokens and those on a CPU go
            through `sdpa` always: the other two know 16 bits on CUDA only.

    Returns:
        [T, heads, head_dim].
    """
    kernel = choose_kernel(name, query.device, query.dtype, query.shape[-1])
    if kernel == "xformers":
        return _xformers(query, key, value, tuple(layout))
    if kernel == "varlen":
        return _varlen(query, key, value, tuple(layout))
    return _sdpa(query, key, value, layout)


@torch.compiler.assume_constant_result  # a compiled block asks when it is compiled, not when it runs
def choose_kernel(name: str, device: torch.device, dtype: torch.dtype, head_dim: int) -> str:
    """The kernel for such tokens; says so, once, when `auto` misses xformers."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return "sdpa"
    if name != "auto":
        return name
    if torch.cuda.get_device_capability(device) < (8, 0) or head_dim % 8:  # what the fast kernels' bf16 needs
        return "sdpa"
    if has_xformers():
        return "xformers"
    _say_missing()
    return "varlen"


@lru_cache(maxsize=1)
def _say_missing() -> None:
    if os.environ.get("RANK", "0") == "0":
        print("pretrain: xformers is not installed: attention runs in torch.nn.attention.varlen", file=sys.stderr)


@torch.compiler.disable  # a compiled block ends before this call and goes on after it: the kernel is compiled already
def _xformers(query: Tensor, key: Tensor, value: Tensor, layout: tuple[Run, ...]) -> Tensor:
    """One memory-efficient attention call, the samples as blocks of a block-diagonal mask."""
    from xformers.ops import memory_efficient_attention

    mask = _block_diagonal_mask(layout, query.device)
    batch = (part.unsqueeze(0) for part in (query, key, value))  # each [1, T, heads, head_dim]
    return memory_efficient_attention(*batch, attn_bias=mask).squeeze(0)


@lru_cache(maxsize=64)  # shapes repeat at every block and step
def _block_diagonal_mask(layout: tuple[Run, ...], device: torch.device) -> Any:
    from xformers.ops.fmha.attn_bias import BlockDiagonalMask

    return BlockDiagonalMask.from_seqlens([run.length for run in layout for _ in range(run.samples)], device=device)


@torch.compiler.disable
def _varlen(query: Tensor, key: Tensor, value: Tensor, layout: tuple[Run, ...]) -> Tensor:
    """One variable-length flash-attention call of PyTorch's own."""
    from torch.nn.attention.varlen import varlen_attn

    ends = _cumulative_lengths(layout, query.device)
    longest = max(run.length for run in layout)
    attended = varlen_attn(query, key, value, ends, ends, longest, longest)
    assert isinstance(attended, Tensor), "only the output was asked for"
    return attended


@lru_cache(maxsize=64)
def _cumulative_lengths(layout: tuple[Run, ...], device: torch.device) -> Tensor:
    """0 and the end of each sample, int32 [samples + 1]."""
    lengths = torch.tensor([0, *(run.length for run in layout for _ in range(run.samples))], dtype=torch.int32)
    return lengths.cumsum(0, dtype=torch.int32).to(device)


def _sdpa(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> Tensor:
    """One scaled-dot-product call per run."""
    outputs = []
    for q, k, v in zip(unpack(query, layout), unpack(key, layout), unpack(value, layout), strict=True):
        attended = _attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        outputs.append(attended.transpose(1, 2).flatten(0, 1))  # [samples * length, heads, head_dim]
    return torch.cat(outputs)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled-dot-product attention; on a CPU in float32 where a backward pass follows, which is slower in bf16."""
    if query.device.type != "cpu" or not query.requires_grad:
        return F.scaled_dot_product_attention(query, key, value)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float()).to(query.dtype)
