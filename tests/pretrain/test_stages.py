"""One run's weights into the next: continued, at a higher resolution, and with the backbone held still at first."""

import json

import pytest
import torch
from safetensors.torch import load_file

from lvd_pretrain.errors import InputError
from lvd_pretrain.layouts import from_hugging_face
from lvd_pretrain.train import pretrain


@pytest.fixture
def first(tiny, tmp_path):
    return pretrain(tiny("optim.steps=6", "optim.base_lr=0.05", f"out={tmp_path / 'first'}"))


def losses(run):
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def backbone(run, step=None):
    folder = run / "model" if step is None else run / f"models/step_{step:08d}"
    return from_hugging_face(load_file(folder / "model.safetensors"))


def test_a_high_resolution_stage_starts_from_a_run_and_resizes_its_positions(tiny, first, tmp_path):
    config = tiny(
        f"init_from={first}", "crops.global_size=64", "crops.local_size=24", "optim.steps=2", f"out={tmp_path / 'high'}"
    )
    run = pretrain(config)
    assert backbone(first)["pos_embed"].shape == (1, 1 + 4 * 4, 32)
    assert backbone(run)["pos_embed"].shape == (1, 1 + 8 * 8, 32)
    assert json.loads((run / "model/config.json").read_text())["image_size"] == 64
    assert all(value < 20 for value in losses(run))
    assert "![Loss terms over the steps](curves.svg)" in (run / "model/README.md").read_text()
    assert "koleo" in (run / "model/curves.svg").read_text()


def test_student_and_teacher_start_at_the_given_weights(tiny, first, tmp_path):
    still = ("optim.steps=1", "optim.warmup=0", "optim.base_lr=0", "optim.min_lr=0", f"out={tmp_path / 'second'}")
    second = pretrain(tiny(f"init_from={first}", *still))
    before, after = backbone(first), backbone(second)
    assert all(torch.allclose(before[name], after[name], atol=1e-7) for name in before)
    one, two = (load_file(run / "model/heads.safetensors") for run in (first, second))
    assert all(torch.allclose(one[name], two[name], atol=1e-7) for name in one)


def test_fresh_heads_settle_while_the_backbone_stands_still(tiny, first, tmp_path):
    run = pretrain(
        tiny(
            f"init_from={first}",
            "init.heads=false",
            "init.freeze_backbone_steps=2",
            "teacher.momentum=[0.0,0.0]",
            "optim.steps=3",
            "optim.warmup=0",
            "optim.freeze_last_layer=0",
            "save.every=1",
            f"out={tmp_path / 'warm'}",
        )
    )
    start, frozen, moved = backbone(first), backbone(run, 2), backbone(run, 3)
    assert all(torch.equal(start[name], frozen[name]) for name in start)
    assert not all(torch.equal(start[name], moved[name]) for name in start)
    heads = [load_file(run / f"models/step_{step:08d}/heads.safetensors") for step in (1, 2)]
    assert not torch.equal(heads[0]["dino_head.mlp.0.weight"], heads[1]["dino_head.mlp.0.weight"])


def test_a_resumed_run_does_not_start_over_from_the_given_weights(tiny, first, tmp_path):
    config = tiny(f"init_from={first}", "optim.steps=4", "save.every=2", f"out={tmp_path / 'second'}")
    straight = losses(pretrain(config))
    last = tmp_path / "second/checkpoints/step_00000004"
    last.rename(tmp_path / "aside")
    assert losses(pretrain(config)) == straight


def test_weights_that_do_not_fit_stop_before_anything_is_written(tiny, first, tmp_path):
    with pytest.raises(InputError, match=r"model\.depth=2"):
        pretrain(tiny(f"init_from={first}", "model.depth=3", f"out={tmp_path / 'other'}"))
    assert not (tmp_path / "other").exists()
    with pytest.raises(InputError, match="init_from"):
        tiny("init.freeze_backbone_steps=5")
