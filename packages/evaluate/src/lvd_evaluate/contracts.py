"""The nouns that the floors hand one another: tokens, encoders, splits, tasks, features, outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """What one layer of an encoder says about a batch of images, after the encoder's final LayerNorm."""

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
    fingerprint: str  # of architecture and weights
    device: torch.device  # where encode computes

    def encode(self, images: Tensor, num_layers: int) -> list[Tokens]:
        """Tokens of the last `num_layers` layers, deepest last, from uint8 or 0..1 float images [B, 3, S, S]."""
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
class Features:
    """One clean pass of an encoder over a split; stored as fp16, to be multiplied as fp32."""

    cls: Tensor  # [N, L, D], the last L layers, deepest last
    patch_mean: Tensor | None  # [N, D], mean of the last layer's patch tokens
    labels: Tensor  # int64 [N]
    seconds: float  # that the pass took, over all runs that filled the store
    images_per_second: float


@dataclass(frozen=True)
class Outcome:
    """Predictions of one probe under one setting."""

    setting: dict[str, Any]
    predictions: np.ndarray  # int64 [N_test]
    headline: bool  # whether tables show this setting
    procedure: str  # which published procedure this equals, for the reference numbers
    feature: str = ""  # what the probe read, in words
    notes: dict[str, Any] = field(default_factory=dict)
