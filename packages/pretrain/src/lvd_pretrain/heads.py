"""Projection head onto prototypes, shared in form by DINO and iBOT."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvd_pretrain.config import HeadConfig
from lvd_pretrain.initialisation import init_linears


class Prototypes(nn.Module):
    """Weight-normed linear layer without bias: row k is g_k * v_k / |v_k|; g starts at 1 and is trained."""

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(count, 1))
        self.weight_v = nn.Parameter(torch.empty(count, dim).uniform_(-(dim**-0.5), dim**-0.5))  # PyTorch's own Linear

    def forward(self, x: Tensor) -> Tensor:
        """[N, d] -> logits [N, K]."""
        weight = self.weight_g * F.normalize(self.weight_v, dim=-1)
        return F.linear(x, weight)


class ProjectionHead(nn.Module):
    """Three-layer MLP, L2 normalisation, prototypes (DINO, arXiv 2104.14294, appendix C; DINOv2's sizes)."""

    def __init__(self, width: int, config: HeadConfig, init_std: float | None) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.bottleneck),
        )
        init_linears(self.mlp, init_std)
        self.last_layer = Prototypes(config.bottleneck, config.prototypes)

    def forward(self, x: Tensor) -> Tensor:
        """Backbone tokens [N, D] -> prototype logits [N, K], float32."""
        bottleneck = F.normalize(self.mlp(x).float(), dim=-1, eps=1e-12)
        with torch.autocast(x.device.type, enabled=False):  # divided by a small temperature, bf16's steps are large
            return self.last_layer(bottleneck)
