import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from lvd_pretrain.distillation import build_method
from lvd_pretrain.errors import InputError
from lvd_pretrain.masks import masked_patches
from lvd_pretrain.method import Views
from lvd_pretrain.pretrained import open_pretrained
from lvd_pretrain.sinkhorn import sinkhorn_knopp
from lvd_pretrain.train import pretrain

STUDENT = ("model.width=16", "model.heads=2", "model.drop_path=0.0")


@pytest.fixture
def teacher_run(tiny, tmp_path):
    return pretrain(tiny("optim.steps=2", "model.registers=1", f"out={tmp_path / 'teacher'}"))


def views(masked: int, batch: int = 4) -> Views:
    """Random crops; the first `masked` patches of every second global crop are masked, or all of all of them."""
    masks = np.zeros((2 * batch, 16), dtype=bool)
    masks[:: 2 if masked < 16 else 1, :masked] = True
    positions, weights = (torch.from_numpy(part) for part in masked_patches(masks))
    crops = torch.randn(2 * batch, 3, 32, 32), torch.randn(2 * batch, 3, 16, 16)
    return Views(*crops, torch.from_numpy(masks), positions, weights)


def test_a_student_learns_from_a_larger_frozen_teacher_and_goes_on_after_a_kill(tiny, teacher_run, tmp_path):
    config = tiny(*STUDENT, f"distill.teacher={teacher_run}", "optim.steps=4", "save.every=2", f"out={tmp_path / 's'}")
    run = pretrain(config)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    model = load_file(run / "model/model.safetensors")
    assert model["embeddings.cls_token"].shape == (1, 1, 16)
    assert {"dino_global", "dino_local", "ibot", "koleo"} <= json.loads(lines[0]).keys()
    shutil.rmtree(run / "checkpoints/step_00000004")
    pretrain(config)
    again = (run / "metrics.jsonl").read_text().splitlines()
    for one, two in zip(lines, again, strict=True):
        assert json.loads(one)["loss"] == json.loads(two)["loss"]
    assert all(torch.equal(value, model[key]) for key, value in load_file(run / "model/model.safetensors").items())


def test_the_teacher_stays_the_ema_follows_and_masks_are_not_shown(tiny, teacher_run):
    torch.manual_seed(0)
    method = build_method(tiny(*STUDENT, f"distill.teacher={teacher_run}", "distill.patches=masks")).train()
    weights = open_pretrained(str(teacher_run))
    batch = views(masked=5)
    before = method(batch, 0.05)
    with torch.no_grad():
        method.student["backbone"].mask_token.fill_(3.0)
    assert all(torch.equal(before[name], value) for name, value in method(batch, 0.05).items())
    assert not method.teacher.training
    assert not method.ema.training
    with torch.no_grad():
        method.student["backbone"].cls_token.add_(1.0)
    method.update_teacher(0.75)
    moved = method.ema["backbone"].cls_token - method.student["backbone"].cls_token
    assert torch.allclose(moved, torch.full_like(moved, -0.75), atol=1e-5)
    state = method.teacher.state_dict()
    assert all(torch.equal(state[f"backbone.{name}"], value) for name, value in weights.backbone.items())
    assert all(torch.equal(state[name], value) for name, value in weights.heads.items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in method.teacher.parameters())


def test_the_patch_term_over_all_patches_is_the_plain_one(tiny, teacher_run):
    torch.manual_seed(0)
    method = build_method(tiny(*STUDENT, f"distill.teacher={teacher_run}")).eval()
    batch = views(masked=16)
    with torch.no_grad():
        (theirs,), (ours,) = (part["backbone"]([batch.global_crops]) for part in (method.teacher, method.student))
        targets = sinkhorn_knopp(method.teacher["ibot_head"](theirs.patches.flatten(0, 1)).dense(), 0.05, 3)
        logits = method.student["ibot_head"](ours.patches.flatten(0, 1)).dense()
        expected = -(targets * F.log_softmax(logits / 0.1, dim=-1)).sum(1).mean()  # every crop has as many patches
        assert float(method(batch, 0.05)["ibot"]) == pytest.approx(float(expected), rel=1e-5)


def test_a_teacher_without_heads_gets_fresh_ones(tiny, teacher_run):
    (teacher_run / "model/heads.safetensors").unlink()
    torch.manual_seed(0)
    method = build_method(tiny(*STUDENT, f"distill.teacher={teacher_run}"))
    assert method.teacher["dino_head"].mlp[0].weight.shape == (32, 32)
    losses = method(views(masked=16), 0.05)
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize(
    ("word", "way_out"),
    [
        ("dino_head.prototypes=32", "dino_head.prototypes=64"),
        ("model.patch_size=16", "model.patch_size=8"),
        ("model.drop_path=0.1", "model.drop_path=0"),
        ("distill.patches=some", "all, masks"),
        ("distill.teacher=nowhere.pth", "no such file"),
    ],
)
def test_teacher_and_recipe_that_differ_are_told_apart(tiny, teacher_run, word, way_out):
    with pytest.raises(InputError, match=way_out):
        build_method(tiny(*STUDENT, f"distill.teacher={teacher_run}", word))
