"""Fused losses in two sharded processes, one at times without a masked patch, are the dense losses of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from lvd_pretrain.data import build_loader
from lvd_pretrain.sources import open_images
from lvd_pretrain.train import pretrain

pytestmark = pytest.mark.slow
LAUNCH = Path(__file__).parents[2] / "packages/pretrain/launch/8gpu.yaml"


def test_two_sharded_ranks_with_fused_losses_equal_one_dense_process(tiny, tmp_path):
    common = ("optim.steps=6", "model.drop_path=0.0", "loss.koleo=0", "optim.base_lr=0.05", "masks.probability=0.25")
    alone = tiny(*common, "optim.batch_size=4", "loss.fused=false", f"out={tmp_path / 'alone'}")
    pair = tiny(*common, "optim.batch_size=2", "loss.fused=true", f"out={tmp_path / 'pair'}")

    loaders = [build_loader(open_images(pair.data), pair, 0, rank, 2) for rank in range(2)]
    counts = [[int(batch.masks.sum()) for batch in loader] for loader in loaders]
    assert any(one != other for one, other in zip(*counts, strict=True))
    assert any(0 in step and sum(step) for step in zip(*counts, strict=True))

    pretrain(alone)
    OmegaConf.save(OmegaConf.create(pair.to_dict()), tmp_path / "pair.yaml")
    launcher = [str(Path(sys.executable).with_name("accelerate")), "launch", "--config_file", str(LAUNCH)]
    words = ["--num_processes", "2", "--main_process_port", "0", "-m", "lvd_pretrain", str(tmp_path / "pair.yaml")]
    result = subprocess.run(
        [*launcher, *words],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    ours, theirs = (
        [json.loads(line) for line in (Path(config.out) / "metrics.jsonl").read_text().splitlines()]
        for config in (pair, alone)
    )
    assert len(ours) == 6
    for one, other in zip(ours, theirs, strict=True):
        for term in ("dino_global", "dino_local", "ibot", "gradient_norm/backbone", "gradient_norm/ibot_head"):
            assert one[term] == pytest.approx(other[term], rel=1e-4, abs=1e-4), (one["step"], term)
    for name in ("model.safetensors", "heads.safetensors"):
        weights, expected = (load_file(Path(config.out) / "model" / name) for config in (pair, alone))
        assert all(torch.allclose(weights[key], expected[key], rtol=0, atol=1e-4) for key in expected)
