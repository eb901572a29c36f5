"""The vision transformer of DINOv2, packed: crops of all sizes go through it as one token matrix.

Key layout is the official one (`blocks.0.attn.qkv.weight`, ...), so released weights load as they are. Pre-norm
blocks with LayerScale; stochastic depth drops whole samples from a branch and skips their compute (DINOv2, arXiv
2304.07193, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lvd_pretrain.attention import Layout, Run, packed_attention, unpack
from lvd_pretrain.config import ModelConfig
from lvd_pretrain.initialisation import init_linears

NORM_EPS = 1e-6


class Tokens(NamedTuple):
    """Final-normed output of one crop list."""

    cls: Tensor  # [B, D]
    registers: Tensor  # [B, R, D]
    patches: Tensor  # [B, N, D]


def keep_inputs(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function(x)`, an elementwise part and a Linear: of the two only x is kept for the backward pass.

    The elementwise part is computed again there, the Linear is not: `checkpoint` stops when it has what was kept.
    torch.compile decides by itself what to compute again.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return function(x)
    return checkpoint(function, x, use_reentrant=False, preserve_rng_state=False)


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens, [B, 3, H, W] -> [B, N, D]."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Row-major patch tokens."""
        return self.proj(images).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention over a packed token matrix."""

    def __init__(self, width: int, heads: int, kernel: str) -> None:
        super().__init__()
        self.heads, self.kernel = heads, kernel
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """[T, D] -> [T, D]."""
        query, key, value = self.qkv(x).unflatten(1, (3, self.heads, -1)).unbind(1)  # each [T, heads, head_dim]
        return self.proj(packed_attention(query, key, value, layout, self.kernel).flatten(1))


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        return keep_inputs(self._project, self.fc1(x))

    def _project(self, hidden: Tensor) -> Tensor:
        return self.fc2(F.gelu(hidden))


class SwiGlu(nn.Module):
    """Gated feed-forward (arXiv 2002.05202); the hidden size keeps an MLP's parameter count, rounded up to 8."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        hidden = self.hidden(hidden)
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    @staticmethod
    def hidden(mlp: int) -> int:
        """Hidden size that stands in for an MLP's."""
        return (int(mlp * 2 / 3) + 7) // 8 * 8

    def forward(self, x: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        return keep_inputs(self._project, self.w12(x))

    def _project(self, hidden: Tensor) -> Tensor:
        gate, up = hidden.chunk(2, dim=-1)
        return self.w3(F.silu(gate) * up)


class LayerScale(nn.Module):
    """A learned factor per channel (CaiT, arXiv 2103.17239)."""

    def __init__(self, width: int, value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), value))

    def forward(self, x: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        return x * self.gamma


class Block(nn.Module):
    """Attention and feed-forward, each a residual branch."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, _, heads = config.dims
        ffn = SwiGlu if config.ffn == "swiglu" else Mlp
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads, config.attention)
        self.ls1 = LayerScale(width, config.layerscale)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = ffn(width, int(width * config.mlp_ratio))
        self.ls2 = LayerScale(width, config.layerscale)
        self.drop_path = config.drop_path
        self.checkpointing = False  # keep only the input for the backward pass, compute the rest again there
        self.branches: Callable[[Tensor, Layout], Tensor] = self._branches

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """[T, D] -> [T, D]."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(self.branches, x, layout, use_reentrant=False)
        return self.branches(x, layout)

    def compile_branches(self) -> None:
        """Let torch.compile make machine code of both branches, for each layout that comes; names stay as they are."""
        self.branches = torch.compile(self._branches, dynamic=False)

    def _branches(self, x: Tensor, layout: Layout) -> Tensor:
        x = self._add(x, layout, self._attend)
        return self._add(x, layout, self._feed_forward)

    def _attend(self, x: Tensor, layout: Layout) -> Tensor:
        return self.ls1(self.attn(self.norm1(x), layout))

    def _feed_forward(self, x: Tensor, layout: Layout) -> Tensor:
        return self.ls2(self.mlp(self.norm2(x)))

    def _add(self, x: Tensor, layout: Layout, branch: Callable[[Tensor, Layout], Tensor]) -> Tensor:
        if not self.training or self.drop_path == 0:
            return x + branch(x, layout)
        rows, kept, scale = sample_rows(layout, self.drop_path, x.device)
        update = (branch(x.index_select(0, rows), kept) * scale).to(x.dtype)
        return AddRows.apply(x, rows, update)


class AddRows(torch.autograd.Function):
    """`x.index_add(0, rows, update)`, whose own backward pass would keep all of `update` for its shape alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, update: Tensor) -> Tensor:
        """[T, D], int64 [T'], [T', D] -> [T, D]."""
        ctx.save_for_backward(rows)
        return x.index_add(0, rows, update)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor]:
        """The sum's gradient, whole to x and its rows to the update."""
        (upstream,), (rows,) = gradients, ctx.saved_tensors
        return upstream, None, upstream.index_select(0, rows)


def sample_rows(layout: Layout, rate: float, device: torch.device) -> tuple[Tensor, list[Run], Tensor]:
    """Draw the samples a residual branch keeps: `max(int(b * (1 - rate)), 1)` of each run's b, without replacement.

    Returns:
        Token rows int64 [T'], their layout, and each row's factor b / kept, [T', 1]: the branch stays unbiased.
    """
    rows, kept, scales, start = [], [], [], 0
    for samples, length in layout:
        count = max(int(samples * (1 - rate)), 1)
        chosen = torch.randperm(samples, device=device)[:count]
        rows.append((start + chosen.unsqueeze(1) * length + torch.arange(length, device=device)).flatten())
        kept.append(Run(count, length))
        scales.append(torch.full((count * length, 1), samples / count, device=device))
        start += samples * length
    return torch.cat(rows), kept, torch.cat(scales)


def resize_position_embedding(embedding: Tensor, grid: tuple[int, int], offset: float, antialias: bool) -> Tensor:
    """Bicubic resize of a square grid's position embedding; the cls token's row stays.

    Args:
        embedding: [1, 1 + n * n, D], cls first.
        grid: patches wanted, (height, width).
        offset: above 0, the grid is resized by a slightly larger scale factor, which also shifts the sampling
            coordinates (released models without registers: 0.1); at 0 it is resized by size.
        antialias: low-pass filter before shrinking, for offset 0 (released models with registers).

    Returns:
        float32 [1, 1 + height * width, D].
    """
    side = math.isqrt(embedding.shape[1] - 1)
    cls, patches = embedding.float().split([1, side**2], dim=1)
    square = patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # [1, D, side, side]
    if offset:
        scale = ((grid[0] + offset) / side, (grid[1] + offset) / side)
        resized = F.interpolate(square, scale_factor=scale, mode="bicubic")
    else:
        resized = F.interpolate(square, size=grid, mode="bicubic", antialias=antialias)
    assert resized.shape[-2:] == grid, f"position embedding became {tuple(resized.shape[-2:])}"
    return torch.cat([cls, resized.flatten(2).transpose(1, 2)], dim=1)


class VisionTransformer(nn.Module):
    """DINOv2's backbone.

    Args:
        config: shape and regularisation.
        image_size: training size in pixels; the position embedding's grid is image_size / patch_size squared.
    """

    def __init__(self, config: ModelConfig, image_size: int) -> None:
        super().__init__()
        width, depth, _ = config.dims
        self.config = config
        self.grid = image_size // config.patch_size
        self.patch_embed = PatchEmbed(config.patch_size, width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.grid**2, width))
        self.register_tokens = nn.Parameter(torch.empty(1, config.registers, width)) if config.registers else None
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.init_weights()

    def init_weights(self) -> None:
        """As released: tokens 1e-6, position embedding 0.02; the patch convolution as PyTorch has it."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        if self.register_tokens is not None:
            nn.init.normal_(self.register_tokens, std=1e-6)
        init_linears(self, self.config.init_std)

    def position_embedding(self, height: int, width: int) -> Tensor:
        """The embedding at a grid of height x width patches, [1, 1 + height * width, D]."""
        if (height, width) == (self.grid, self.grid):
            return self.pos_embed
        config = self.config
        return resize_position_embedding(
            self.pos_embed, (height, width), config.pos_embed_offset, config.pos_embed_antialias
        )

    def embed(self, images: Tensor, masks: Tensor | None) -> Tensor:
        """Images [B, 3, H, W] and bool masks [B, N] -> input tokens [B, 1 + R + N, D] (cls, registers, patches)."""
        size = self.config.patch_size
        tokens = self.patch_embed(images)  # [B, N, D]
        if masks is not None:
            tokens = torch.where(masks.unsqueeze(-1), self.mask_token.to(tokens.dtype), tokens)
        cls = self.cls_token.expand(len(tokens), -1, -1)
        tokens = torch.cat([cls, tokens], dim=1)
        tokens = tokens + self.position_embedding(images.shape[-2] // size, images.shape[-1] // size)
        if self.register_tokens is not None:
            registers = self.register_tokens.expand(len(tokens), -1, -1)
            tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)
        return tokens

    def forward(self, crops: Sequence[Tensor], masks: Sequence[Tensor | None] | None = None) -> list[Tokens]:
        """Final-normed tokens of several crop lists in one pass.

        Args:
            crops: image batches [B_i, 3, H_i, W_i], sizes multiples of the patch size.
            masks: per crop list bool [B_i, N_i] (True = replaced by the mask token) or None.
        """
        masks = masks if masks is not None else [None] * len(crops)
        embedded = [self.embed(images, mask) for images, mask in zip(crops, masks, strict=True)]
        layout = [Run(len(tokens), tokens.shape[1]) for tokens in embedded]
        x = torch.cat([tokens.flatten(0, 1) for tokens in embedded])  # [T, D]
        for block in self.blocks:
            x = block(x, layout)
        outputs = unpack(self.norm(x.float()), layout)
        registers = self.config.registers
        return [Tokens(out[:, 0], out[:, 1 : 1 + registers], out[:, 1 + registers :]) for out in outputs]
