"""Heads that read depth off frozen tokens: linear ones over depth bins, and DPT (DINOv2, arXiv 2304.07193, 7.4).

Every head takes `TokenMaps` and gives metres on a grid of its own; whoever asks resizes that to the truth's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvd_evaluate.config import DepthConfig

RELEASED_LAYERS = {12: (2, 5, 8, 11), 24: (4, 11, 17, 23), 40: (9, 19, 29, 39)}  # blocks of S/B, L and g, from 0
FLOOR = 0.1  # of every bin's share before they are normalised: no bin is ever without gradient
ZOOM = 4  # how much finer than the tokens linear heads decide
WEIGHT_STD = 0.01  # of linear heads


@dataclass(frozen=True)
class TokenMaps:
    """Class and patch tokens of some layers, deepest last, float32."""

    cls: Tensor  # [B, L, D]
    patches: Tensor  # [B, L, h, w, D]


def pick_layers(num_layers: int, kinds: Sequence[str]) -> list[int]:
    """Blocks that heads of these kinds read: the last for lin.1, else four over the depth (repeated if too shallow)."""
    if set(kinds) == {"lin.1"}:
        return [num_layers - 1]
    quarters = [max(round(quarter * num_layers / 4) - 1, 0) for quarter in (1, 2, 3, 4)]
    return list(RELEASED_LAYERS.get(num_layers, quarters))


def build_head(kind: str, width: int, config: DepthConfig, seed: int) -> nn.Module:
    """A head for tokens of `width` values; weights depend on kind and seed alone, not on what was drawn before.

    Args:
        kind: lin.1, lin.4 or dpt.
        width: D.
        config: range of depth, number of bins.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "dpt":
            return DptHead(width, config.min_depth, config.max_depth)
        return BinsHead(width, 4 if kind == "lin.4" else 1, config.bins, config.min_depth, config.max_depth)


class BinsHead(nn.Module):
    """One linear map from tokens to shares of depth bins; the depth is their expectation.

    The class token is concatenated to every patch. As the map is linear, that is a bias per image; and since bilinear
    weights sum to 1, enlarging its outputs equals enlarging its inputs at a fraction of the work.
    """

    def __init__(self, width: int, num_layers: int, num_bins: int, min_depth: float, max_depth: float) -> None:
        super().__init__()
        self._num_layers = num_layers
        self.patches = nn.Linear(num_layers * width, num_bins)
        self.cls = nn.Linear(num_layers * width, num_bins, bias=False)
        for layer in (self.patches, self.cls):
            nn.init.normal_(layer.weight, std=WEIGHT_STD)
        nn.init.zeros_(self.patches.bias)
        self.centres: Tensor
        self.register_buffer("centres", torch.linspace(min_depth, max_depth, num_bins))  # metres

    def forward(self, tokens: TokenMaps) -> Tensor:
        """Metres [B, 4h, 4w]."""
        patches = tokens.patches[:, -self._num_layers :].movedim(1, 3).flatten(3)  # [B, h, w, L D]
        cls = tokens.cls[:, -self._num_layers :].flatten(1)  # [B, L D]
        logits = self.patches(patches) + self.cls(cls)[:, None, None]  # [B, h, w, K]
        logits = F.interpolate(logits.permute(0, 3, 1, 2), scale_factor=ZOOM, mode="bilinear")  # [B, K, 4h, 4w]
        return expected_depth(logits.permute(0, 2, 3, 1), self.centres)


def expected_depth(logits: Tensor, centres: Tensor) -> Tensor:
    """Mean of bin centres [K], in metres, under shares in proportion to relu(logits) + 0.1; logits [..., K]."""
    shares = logits.relu() + FLOOR
    return (shares @ centres) / shares.sum(dim=-1)


class DptHead(nn.Module):
    """Dense prediction transformer's decoder (Ranftl et al., arXiv 2103.13413) on the maps of four layers."""

    def __init__(self, width: int, min_depth: float, max_depth: float, channels: int = 256) -> None:
        super().__init__()
        self._min_depth = min_depth
        narrow = [max(width // divisor, 1) for divisor in (8, 4, 2, 1)]
        self.readouts = nn.ModuleList(nn.Sequential(nn.Linear(2 * width, width), nn.GELU()) for _ in narrow)
        self.pyramid = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, size, 1), rescale, nn.Conv2d(size, channels, 3, padding=1, bias=False))
            for size, rescale in zip(narrow, _rescalers(narrow), strict=True)
        )
        self.deepest = Fusion(channels, joins=False)
        self.fusions = nn.ModuleList(Fusion(channels) for _ in narrow[:-1])
        self.project = nn.Conv2d(channels, channels, 3, padding=1)
        self.reduce = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.refine = nn.Conv2d(channels // 2, 32, 3, padding=1)
        self.depth = nn.Conv2d(32, 1, 1)
        nn.init.constant_(
            cast(Tensor, self.depth.bias), 0.1 * max_depth
        )  # opens the last rectifier: closed, it would never learn

    def forward(self, tokens: TokenMaps) -> Tensor:
        """Metres [B, 16h, 16w]."""
        maps: list[Tensor] = []
        for layer, (readout, rescale) in enumerate(zip(self.readouts, self.pyramid, strict=True)):
            patches = tokens.patches[:, layer]  # [B, h, w, D]
            cls = tokens.cls[:, layer, None, None].expand_as(patches)
            maps.append(rescale(readout(torch.cat([patches, cls], dim=3)).permute(0, 3, 1, 2)))  # [B, 256, 4h..h/2, .]
        fused = self.deepest(maps[3], None, size=maps[2].shape[2:])
        fused = self.fusions[2](fused, maps[2], size=maps[1].shape[2:])
        fused = self.fusions[1](fused, maps[1], size=maps[0].shape[2:])
        fused = self.fusions[0](fused, maps[0], size=_doubled(maps[0]))  # [B, 256, 8h, 8w]
        fused = self.reduce(self.project(fused).relu())
        fused = F.interpolate(fused, size=_doubled(fused), mode="bilinear", align_corners=True)  # [B, 128, 16h, 16w]
        return self.depth(self.refine(fused).relu()).relu()[:, 0] + self._min_depth


class Fusion(nn.Module):
    """Adds a finer map to the coarse one if there is one to join, then enlarges the sum."""

    def __init__(self, channels: int, *, joins: bool = True) -> None:
        super().__init__()
        if joins:
            self.before = Residual(channels)
        self.after = Residual(channels)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, coarse: Tensor, finer: Tensor | None, *, size: Sequence[int]) -> Tensor:
        """[B, C, H, W] at `size`."""
        total = coarse if finer is None else coarse + self.before(finer)
        total = F.interpolate(self.after(total), size=tuple(size), mode="bilinear", align_corners=True)
        return self.out(total)


class Residual(nn.Module):
    """Two rectified 3x3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x + self.second(self.first(x.relu()).relu())


def _rescalers(sizes: Sequence[int]) -> list[nn.Module]:
    """Token maps four times as fine, twice, as they are, and half."""
    return [
        nn.ConvTranspose2d(sizes[0], sizes[0], 4, stride=4),
        nn.ConvTranspose2d(sizes[1], sizes[1], 2, stride=2),
        nn.Identity(),
        nn.Conv2d(sizes[3], sizes[3], 3, stride=2, padding=1),
    ]


def _doubled(grid: Tensor) -> tuple[int, int]:
    return 2 * grid.shape[2], 2 * grid.shape[3]
