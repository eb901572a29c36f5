"""Distillation: a frozen larger teacher in the place of the student's own EMA (DINOv2, arXiv 2304.07193, section 5).

The objective is the one of method.py. What differs: targets come from a backbone that does not move, with the heads it
was trained with; the student sees no masks and no stochastic depth; its EMA takes no part in training and is the model.
"""

from __future__ import annotations

from torch import nn

from lvd_pretrain.config import HeadConfig, PretrainConfig
from lvd_pretrain.errors import InputError
from lvd_pretrain.heads import ProjectionHead
from lvd_pretrain.method import SelfDistillation
from lvd_pretrain.pretrained import Pretrained, load_backbone, load_heads, open_pretrained
from lvd_pretrain.vit import VisionTransformer


class Distillation(SelfDistillation):
    """A student that learns a frozen teacher's targets: on all patches, or on those that masks would have hidden.

    Attributes:
        teacher: frozen backbone and heads, of any width and depth.
        ema: EMA of the student, the model that is saved.

    Raises:
        InputError: teacher and recipe differ in patch size, in prototypes or in which heads there are.
    """

    shows_masks = False

    def __init__(self, config: PretrainConfig, weights: Pretrained) -> None:
        super().__init__(config)
        self.student["backbone"].mask_token.requires_grad_(False)
        self.ema = self.teacher
        self.teacher = frozen_teacher(config, weights, [name for name in self.student if name != "backbone"])

    @property
    def average(self) -> nn.ModuleDict:
        """EMA of the student."""
        return self.ema

    def train(self, mode: bool = True) -> Distillation:
        """Training mode for the student alone."""
        super().train(mode)
        self.ema.eval()
        return self


def frozen_teacher(config: PretrainConfig, weights: Pretrained, names: list[str]) -> nn.ModuleDict:
    """The teacher's backbone with its own heads, or, where only a backbone is published, with fresh random ones.

    A fresh head is a fixed random map onto prototypes: Sinkhorn-Knopp makes balanced targets of it, close images get
    close targets.
    """
    shape = weights.shape
    if shape.patch_size != config.model.patch_size:
        raise InputError(
            f"the teacher {weights.source} has patches of {shape.patch_size} px, the recipe of "
            f"{config.model.patch_size}: set model.patch_size={shape.patch_size}"
        )
    backbone = VisionTransformer(shape, weights.grid * shape.patch_size)
    load_backbone(backbone, weights)
    modules = nn.ModuleDict({"backbone": backbone})
    for name in names:
        wanted: HeadConfig = getattr(config, name)
        modules[name] = ProjectionHead(shape.dims[0], _head_of(weights, name, wanted), config.model.init_std)
    if weights.heads:
        load_heads(modules, weights)
    return modules.requires_grad_(False).eval()


def _head_of(weights: Pretrained, name: str, wanted: HeadConfig) -> HeadConfig:
    prototypes = weights.heads.get(f"{name}.last_layer.weight_v")
    if prototypes is None:  # no heads: fresh ones of the recipe's size; this one missing: load_heads says so
        return wanted
    if prototypes.dim() == 2 and len(prototypes) != wanted.prototypes:
        raise InputError(
            f"the teacher {weights.source} has {len(prototypes)} prototypes, the recipe {wanted.prototypes}: "
            f"set {name}.prototypes={len(prototypes)}"
        )
    first = weights.heads.get(f"{name}.mlp.0.weight")
    if first is None or {first.dim(), prototypes.dim()} != {2}:
        raise InputError(f"the teacher {weights.source} has a {name} of another make: its layers are no matrices")
    return HeadConfig(prototypes=len(prototypes), hidden=first.shape[0], bottleneck=prototypes.shape[1])


def build_method(config: PretrainConfig) -> SelfDistillation:
    """What the recipe trains: distillation if it names a teacher, self-distillation if not."""
    if config.distill.teacher:
        return Distillation(config, open_pretrained(config.distill.teacher))
    return SelfDistillation(config)
