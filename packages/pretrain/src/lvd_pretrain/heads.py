"""Projection head onto prototypes, shared in form by DINO and iBOT."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvd_pretrain.config import HeadConfig
from lvd_pretrain.initialisation import init_linears
from lvd_pretrain.scores import Scores


class Prototypes(nn.Module):
    """Weight-normed linear layer without bias: row k is g_k * v_k / |v_k|; g starts at 1 and is trained."""

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(count, 1))
        self.weight_v = nn.Parameter(torch.empty(count, dim).uniform_(-(dim**-0.5), dim**-0.5))  # PyTorch's own Linear

    def forward(self, x: Tensor) -> Scores:
        """[N, d] -> logits [N, K], factored; the rows are normalised once, however often the logits are computed."""
        return Scores(x, torch._weight_norm(self.weight_v.float(), self.weight_g.float(), 0))


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

    def forward(self, x: Tensor) -> Scores:
        """Backbone tokens [N, D] -> prototype logits [N, K], factored, float32."""
        return self.last_layer(F.normalize(self.mlp(x).float(), dim=-1, eps=1e-12))
