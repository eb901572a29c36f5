"""Twenty steps whose losses are on record: a refactor must not move them.

A change that is meant to move them rewrites the record, in a commit that says why:
`python tests/pretrain/test_golden.py`.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lvd_pretrain.recipes import build_config
from lvd_pretrain.train import pretrain

GOLDEN = Path(__file__).parents[1] / "golden"
RECORDS = sorted(path.name for path in GOLDEN.glob("pretrain_*.json"))


def render(folder: Path) -> Path:
    """24 PNG files (lossless: no decoder may differ) of smooth waves with a bright square."""
    folder.mkdir()
    for index in range(24):
        rng = np.random.default_rng(index)
        rows, columns = np.mgrid[0:40, 0:48]
        waves = [np.sin(rows * rng.uniform(0, 0.4) + columns * rng.uniform(0, 0.4)) for _ in range(3)]
        pixels = np.round(np.stack(waves, axis=-1) * 100 + 127).astype(np.uint8)
        top, left = rng.integers(24, size=2)
        pixels[top : top + 12, left : left + 12] = rng.integers(256, size=3)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return folder


def run(recipe: list[str], folder: Path) -> list[dict[str, float]]:
    """The logged terms of a run, step by step."""
    config = build_config(None, [*recipe, f"data.path={render(folder / 'images')}", f"out={folder / 'run'}"])
    lines = (pretrain(config) / "metrics.jsonl").read_text().splitlines()
    terms = ("loss", "dino_global", "dino_local", "ibot", "koleo", "gradient_norm/backbone")
    return [{term: line[term] for term in terms if term in line} for line in map(json.loads, lines)]


def draw_normal(weight: torch.Tensor, std: float, a: float = -2.0, b: float = 2.0) -> torch.Tensor:
    """trunc_normal_ as torch 2.15 draws it: older ones make other numbers of the same seed."""
    with torch.no_grad():
        weight.normal_(std=std)
        while (outside := (weight < a) | (weight > b)).any():
            weight.copy_(torch.where(outside, torch.empty_like(weight).normal_(std=std), weight))
    return weight


@pytest.mark.parametrize("fused", ["false", "true"])
@pytest.mark.parametrize("name", RECORDS)
def test_losses_are_those_on_record(name, fused, tmp_path, monkeypatch):
    monkeypatch.setattr(nn.init, "trunc_normal_", draw_normal)
    record = json.loads((GOLDEN / name).read_text())
    steps = run([*record["recipe"], f"loss.fused={fused}"], tmp_path)
    assert len(steps) == len(record["steps"]) == 20
    for number, (now, then) in enumerate(zip(steps, record["steps"], strict=True), start=1):
        assert now == pytest.approx(then, rel=1e-5), f"step {number}"


def test_there_is_a_record():
    assert len(RECORDS) >= 2


if __name__ == "__main__":
    torch.set_num_threads(1)
    nn.init.trunc_normal_ = draw_normal
    for name in RECORDS:
        recipe = json.loads((GOLDEN / name).read_text())["recipe"]
        with tempfile.TemporaryDirectory() as folder:
            steps = run(recipe, Path(folder))
        (GOLDEN / name).write_text(json.dumps({"recipe": recipe, "steps": steps}, indent=1) + "\n")
