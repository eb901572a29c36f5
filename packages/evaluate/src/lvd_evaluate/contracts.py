"""The nouns that the floors hand one another: tokens, encoders, splits, tasks, features, outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

VOID = -1  # class of pixels that count neither for nor against


@dataclass(frozen=True)
class Tokens:
    """What one layer of an encoder says about a batch of images."""

    cls: Tensor  # [B, D]; the mean of the map where a network has no class token
    registers: Tensor | None = None  # [B, R, D]
    patches: Tensor | None = None  # [B, h, w, D]


class Encoder(Protocol):
    """A frozen encoder, whatever library it comes from."""

    name: str  # short, for tables
    spec: str  # as the user wrote it
    loader: str  # library and version: position embeddings are resampled differently by each
    image_size: int  # pixels of the square that encode takes
    resize_size: int  # pixels of the short side before the centre crop
    mean: tuple[float, ...]  # of RGB in 0..1
    std: tuple[float, ...]
    num_layers: int
    num_parameters: int
    feature: str  # what `cls` is, in words
    patch_size: int | None  # pixels; None where there are no patch tokens
    fingerprint: str  # of architecture and weights
    device: torch.device  # where encode computes

    def encode(self, images: Tensor, layers: int | Sequence[int], *, normed: bool = True) -> list[Tokens]:
        """Tokens of the last n layers, or of those with the given numbers (0: the first block), in order of depth.

        Args:
            images: uint8, or float in 0..1, [B, 3, H, W], sides multiples of the patch size.
            layers: how many from the top (no more than there are), or which.
            normed: through the encoder's final LayerNorm, each; False leaves them as the blocks gave them.
        """
        ...

    def at_size(self, height: int, width: int) -> Encoder:
        """The same weights for images of that size: itself, or a copy where a library fixes the size at load."""
        ...


@dataclass(frozen=True)
class Split:
    """Labelled images in a fixed order."""

    name: str
    read: Callable[[int, int], list[bytes]]  # encoded image files of rows start..stop
    labels: np.ndarray  # int64 [N], index into the task's classes
    ids: np.ndarray  # text [N], sha256 of each file's bytes
    fingerprint: str  # of ids and labels, in order
    limited: bool = False  # whether the user asked for the first n only

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Task:
    """A classification task: learn on train, measure on test."""

    name: str
    classes: list[str]
    train: Split
    test: Split

    @property
    def fingerprint(self) -> str:
        """Names both splits."""
        return f"{self.train.fingerprint}-{self.test.fingerprint}"


@dataclass(frozen=True)
class DenseSplit:
    """Images with a target for every pixel, in a fixed order."""

    name: str
    read: Callable[[int], tuple[Image.Image, np.ndarray]]  # of a row: RGB image, and its target at its own size
    ids: np.ndarray  # text [N], sha256 of each image file's bytes
    fingerprint: str  # of images and targets, in order
    limited: bool = False  # whether the user asked for the first n only

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class DenseTask:
    """Segmentation: targets int64 [H, W], classes or VOID. Depth: float32 [H, W] in metres, 0 where none was read."""

    name: str
    kind: str  # segmentation or depth
    classes: list[str]  # none for depth
    train: DenseSplit
    test: DenseSplit

    @property
    def fingerprint(self) -> str:
        """Names both splits."""
        return f"{self.train.fingerprint}-{self.test.fingerprint}"


@dataclass(frozen=True)
class Features:
    """One clean pass of an encoder over a split; stored as fp16, to be multiplied as fp32."""

    cls: Tensor  # [N, L, D], the last L layers, deepest last
    patch_mean: Tensor | None  # [N, D], mean of the last layer's patch tokens
    labels: Tensor  # int64 [N]
    seconds: float  # that the pass took, over all runs that filled the store
    images_per_second: float


@dataclass(frozen=True)
class Measurement:
    """A metric as sums over units (images, clips, queries): the mean over groups of summed shares.

    value = mean over groups g with a denominator above 0 of sum_n(numerators[n, g]) / sum_n(denominators[n, g]).
    Top-1 has one group (right, 1); the class mean one per class; mIoU one per class (intersection, union); a mean over
    images one group (value, 1). Units are resampled whole, so one bootstrap serves every metric.
    """

    metric: str  # top1, mean_class, miou, rmse, ...
    numerators: np.ndarray  # float64 [N, G]
    denominators: np.ndarray  # float64 [N, G]
    higher_is_better: bool = True
    unit: str = ""  # of the value: "" is a share of 1, shown in percent; else "m" or "1" (a plain number)


@dataclass(frozen=True)
class Outcome:
    """What one probe says under one setting: classes of the test images, or measurements of another kind."""

    setting: dict[str, Any]
    headline: bool  # whether tables show this setting
    procedure: str  # which published procedure this equals, for the reference numbers
    predictions: np.ndarray | None = None  # int64 [N_test]: top1 and mean_class follow from the task's labels
    measurements: Sequence[Measurement] = ()
    feature: str = ""  # what the probe read, in words
    preprocessing: str = ""  # what images went through; "" is the encoder's own resize and crop
    notes: dict[str, Any] = field(default_factory=dict)
