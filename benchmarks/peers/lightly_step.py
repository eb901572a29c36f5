"""The same training step by LightlyTrain's DINOv2 method, in Lightning's Trainer as shipped.

Runs in the peer's environment: `.peers/lightly-train/bin/python -m benchmarks.peers.lightly_step --precision bf16`.
Crops, prototypes, untied heads, Sinkhorn-Knopp, stochastic depth and masks are set to those of the recipe vits14.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from benchmarks.pretrain.step_work import StepClock, StepWork, parse_work
from lightly_train._methods.dinov2.dinov2 import DINOv2, DINOv2AdamWViTArgs, DINOv2Args
from lightly_train._models.dinov2_vit.dinov2_vit_package import DINOV2_VIT_PACKAGE
from lightly_train._models.embedding_model import EmbeddingModel
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

NAMES = {"vit_small": "vits14", "vit_base": "vitb14", "vit_large": "vitl14", "vit_giant2": "vitg14"}


class Stopwatch(Callback):
    """The clock begins after the first batch and stops when all of them and the teacher's averages are done."""

    def __init__(self, clock: StepClock) -> None:
        self.clock, self.first_loss, self.masked, self.tokens = clock, float("nan"), 0, 0

    def on_train_batch_start(self, trainer: Trainer, method: LightningModule, batch: Any, batch_idx: int) -> None:
        """The second batch starts the clock."""
        if batch_idx == 1:
            self.clock.begin()

    def on_train_batch_end(
        self, trainer: Trainer, method: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Their first weights are not ours: the loss is compared for its size alone."""
        if batch_idx == 0:
            self.first_loss = float(outputs["loss"])

    def count_masked(self, prototypes: torch.nn.Module, inputs: tuple[torch.Tensor], logits: torch.Tensor) -> None:
        """Rows that reach the patch head's prototypes."""
        self.masked = len(inputs[0])

    def count_tokens(self, norm: torch.nn.Module, inputs: tuple[torch.Tensor], normed: torch.Tensor) -> None:
        """Tokens that leave the student's last block, crop list by crop list."""
        self.tokens += inputs[0].shape[:-1].numel()

    def on_train_epoch_end(self, trainer: Trainer, method: LightningModule) -> None:
        """All steps are done."""
        modules = (method.student_embedding_model, method.student_head)
        self.clock.finish(
            first_loss=self.first_loss,
            parameters=sum(parameter.numel() for module in modules for parameter in module.parameters()),
            tokens=self.tokens // (self.clock.work.steps + 1),
            masked=self.masked,
        )


def build_method(work: StepWork) -> DINOv2:
    """Their method with the recipe's settings; everything else is their default."""
    sizes = {
        "patch_size": work.patch_size,
        "img_size": work.global_size,
        "drop_path_rate": work.drop_path,
        "num_register_tokens": 0,
    }
    backbone = DINOV2_VIT_PACKAGE.get_model(NAMES[work.arch], model_args=sizes, load_weights=False)
    settings = DINOv2Args(
        ibot_separate_head=True, output_dim=work.prototypes, center_method="sinkhorn_knopp", weight_decay_start=0.04
    )
    model = EmbeddingModel(wrapped_model=DINOV2_VIT_PACKAGE.get_model_wrapper(backbone))
    return DINOv2(settings, DINOv2AdamWViTArgs(), model, work.batch, 3)


def main(work: StepWork) -> None:
    """Train on one batch, over and over."""
    clock = StepClock(work)
    torch.manual_seed(0)
    method = build_method(work)
    sizes = [work.global_size] * 2 + [work.local_size] * work.local_number
    batch = {"views": [torch.randn(work.batch, 3, size, size) for size in sizes], "filename": [""] * work.batch}
    watch = Stopwatch(clock)
    method.student_head.ibot_head.last_layer.register_forward_hook(watch.count_masked)
    method.student_embedding_model.wrapped_model.get_model().norm.register_forward_hook(watch.count_tokens)
    trainer = Trainer(
        accelerator="cuda" if work.device.startswith("cuda") else "cpu",
        devices=1,
        precision="bf16-mixed" if work.precision == "bf16" else "32-true",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watch],
        limit_train_batches=work.steps + 1,
    )
    pool: Any = [batch] * (work.steps + work.batch)  # it divides the number of items by the batch size
    trainer.fit(method, DataLoader(pool, batch_size=None))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    main(parse_work())
