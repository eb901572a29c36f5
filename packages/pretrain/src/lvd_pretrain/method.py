"""The objective: DINO on cls tokens, iBOT on masked patches, KoLeo on the student's cls, against a momentum teacher."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lvd_pretrain.attention import check_attention
from lvd_pretrain.centering import Center
from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.heads import ProjectionHead
from lvd_pretrain.losses import dino_loss, ibot_loss, koleo_loss
from lvd_pretrain.scores import Assignment, Scores
from lvd_pretrain.sinkhorn import factored_sinkhorn_knopp, sinkhorn_knopp
from lvd_pretrain.vit import VisionTransformer

Targets = Tensor | Assignment


class Views(NamedTuple):
    """A normalised batch of B images; crops are crop-major: all first crops, then all second ones, ..."""

    global_crops: Tensor  # [2B, 3, S, S]
    local_crops: Tensor  # [L * B, 3, s, s]
    masks: Tensor  # bool [2B, N], the student's masked patches of the global crops
    masked: Tensor  # int64 [M], their positions over all global crops' patches
    masked_weights: Tensor  # float32 [M], 1 / masked patches of the crop


class SelfDistillation(nn.Module):
    """Student and teacher in one module; `forward` gives the named, weighted loss terms whose sum is minimised.

    Attributes:
        student, teacher: `backbone`, `dino_head` and, with untied heads, `ibot_head`; equal at step 0.
    """

    shows_masks = True  # whether the student's global crops are masked

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__()
        check_attention(config.model.attention)
        self.config = config
        self.observe: Callable[[Targets, Tensor], None] | None = None
        loss, width = config.loss, config.model.dims[0]
        self.student = nn.ModuleDict({"backbone": VisionTransformer(config.model, config.crops.global_size)})
        self.student["dino_head"] = ProjectionHead(width, config.dino_head, config.model.init_std)
        if loss.ibot and loss.ibot_separate_head:
            self.student["ibot_head"] = ProjectionHead(width, config.ibot_head, config.model.init_std)
        if not loss.ibot:
            self.student["backbone"].mask_token.requires_grad_(False)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.patch_head = "ibot_head" if "ibot_head" in self.student else "dino_head"
        self.cls_center: Center | None = None
        self.patch_center: Center | None = None
        if config.teacher.centering == "ema":
            momentum = config.teacher.center_momentum
            self.cls_center = Center(config.dino_head.prototypes, momentum)
            self.patch_center = Center(getattr(config, self.patch_head).prototypes, momentum) if loss.ibot else None

    @property
    def average(self) -> nn.ModuleDict:
        """EMA of the student, the model that is saved: here it is the teacher too."""
        return self.teacher

    def restart_average(self) -> None:
        """Let the EMA begin at the student's present weights."""
        self.average.load_state_dict(self.student.state_dict())

    def train(self, mode: bool = True) -> SelfDistillation:
        """Training mode for the student; the teacher always stays in eval mode (no stochastic depth)."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, views: Views, temperature: float) -> dict[str, Tensor]:
        """Weighted loss terms, float32 scalars.

        Args:
            views: this rank's batch.
            temperature: teacher temperature of this step.
        """
        weights = self.config.loss
        batch = len(views.global_crops) // 2
        cls_targets, patch_targets = self.targets(views.global_crops, views.masked, temperature)

        backbone, dino_head = self.student["backbone"], self.student["dino_head"]
        crop_lists = [views.global_crops] + ([views.local_crops] if len(views.local_crops) else [])
        tokens = backbone(
            crop_lists, [views.masks if weights.ibot and self.shows_masks else None, None][: len(crop_lists)]
        )
        if self.observe is not None:
            self.observe(cls_targets, tokens[0].cls)
        cls = torch.cat([part.cls for part in tokens])  # [(2 + L) * B, D]
        student_temperature = self.config.teacher.student_temperature

        logits = self._logits(dino_head(cls), like=cls_targets).unflatten(0, (-1, batch))  # [2 + L, B, K]
        dino_global, dino_local = dino_loss(cls_targets, logits, student_temperature)
        losses = {"dino_global": weights.dino * dino_global, "dino_local": weights.dino * dino_local}
        if patch_targets is not None:
            patches = tokens[0].patches.flatten(0, 1)[views.masked]  # [M, D]
            logits = self._logits(self.student[self.patch_head](patches), like=patch_targets)  # [M, K']
            term = ibot_loss(patch_targets, logits, views.masked_weights, 2 * batch, student_temperature)
            losses["ibot"] = weights.ibot * term
        if weights.koleo:  # per view: the two crops of an image must not be each other's neighbours
            first, second = tokens[0].cls.chunk(2)
            losses["koleo"] = weights.koleo * (koleo_loss(first) + koleo_loss(second))
        return losses

    @torch.no_grad()
    def targets(self, global_crops: Tensor, masked: Tensor, temperature: float) -> tuple[Targets, Targets | None]:
        """Teacher assignments of the unmasked global crops: cls [2, B, K]; with iBOT patches [M, K']."""
        (tokens,) = self.teacher["backbone"]([global_crops])
        cls = self._assign(self.teacher["dino_head"](tokens.cls), self.cls_center, temperature)
        patches = None
        if self.config.loss.ibot:
            patch_scores = self.teacher[self.patch_head](tokens.patches.flatten(0, 1)[masked])
            patches = self._assign(patch_scores, self.patch_center, temperature)
        return cls.unflatten(0, (2, len(global_crops) // 2)), patches

    def _assign(self, scores: Scores, center: Center | None, temperature: float) -> Targets:
        """Targets from teacher scores, factored where a dense matrix would be large; both join the same reductions."""
        factored = self.config.loss.fuses(len(scores.features), len(scores.weight))
        if center is not None:
            return center.factored(scores, temperature) if factored else center(scores.dense(), temperature)
        iterations = self.config.teacher.sinkhorn_iterations
        if factored:
            return factored_sinkhorn_knopp(scores, temperature, iterations)
        return sinkhorn_knopp(scores.dense(), temperature, iterations)

    def _logits(self, scores: Scores, like: Targets) -> Tensor | Scores:
        """Student logits in the form the targets have."""
        return scores if isinstance(like, Assignment) else scores.dense()

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """EMA step: average <- momentum * average + (1 - momentum) * student, on the fp32 weights."""
        torch._foreach_lerp_(list(self.average.parameters()), list(self.student.parameters()), 1 - momentum)
