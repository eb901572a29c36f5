"""Rendered images and a configuration small enough that a step takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.recipes import build_config

TINY = (
    "precision=fp32",
    "log_every=1",
    "data.workers=0",
    "model.arch=vit_tiny",
    "model.width=32",
    "model.depth=2",
    "model.heads=2",
    "model.patch_size=8",
    "model.layerscale=0.1",
    "crops.global_size=32",
    "crops.local_size=16",
    "crops.local_number=2",
    "dino_head={prototypes: 64, hidden: 32, bottleneck: 16}",
    "ibot_head={prototypes: 48, hidden: 32, bottleneck: 16}",
    "optim.batch_size=4",
    "optim.warmup=1",
    "optim.freeze_last_layer=1",
    "teacher.temperature_warmup=4",
)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small tensors gain nothing from threads, and tests may run side by side."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fresh_accelerate() -> None:
    """Accelerate keeps its state in the class: every test starts without one, as every process does."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 JPEG files: random gradients with a bright square, no two alike."""
    root = tmp_path_factory.mktemp("images")
    for index in range(24):
        rng = np.random.default_rng(index)
        ramp = np.linspace(0, 1, 40)[:, None, None] * rng.uniform(0, 200, (1, 1, 3))
        pixels = np.broadcast_to(ramp, (40, 56, 3)).copy()
        top, left = rng.integers(24), rng.integers(40)
        pixels[top : top + 16, left : left + 16] = rng.uniform(0, 255, 3)
        folder = root / f"part_{index % 3}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:02d}.jpg", quality=90)
    return root


@pytest.fixture(scope="session")
def tiny_at(images: Path) -> Callable[..., PretrainConfig]:
    """`tiny_at(out, "optim.steps=3", ...)`: a configuration over the rendered images."""

    def build(out: Path, *overrides: str) -> PretrainConfig:
        return build_config(None, [*TINY, f"data.path={images}", f"out={out}", *overrides])

    return build


@pytest.fixture
def tiny(tiny_at: Callable[..., PretrainConfig], tmp_path: Path) -> Callable[..., PretrainConfig]:
    """`tiny("optim.steps=3", ...)`: the same in this test's own folder."""
    return partial(tiny_at, tmp_path / "run")
