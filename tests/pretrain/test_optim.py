import pytest
import torch

from lvd_pretrain.method import SelfDistillation
from lvd_pretrain.optim import build_optimizer, clip_gradients, layer_of, parameter_groups, set_step_values
from lvd_pretrain.schedules import StepValues


def test_layers_count_from_the_embeddings_up():
    names = (
        "backbone.pos_embed",
        "backbone.blocks.0.ls1.gamma",
        "backbone.blocks.11.norm1.weight",
        "backbone.norm.bias",
    )
    assert [layer_of(name, 12) for name in names] == [0, 1, 12, 13]


def test_every_trainable_parameter_is_in_one_group_with_the_papers_factors(tiny):
    config = tiny("optim.layer_decay=0.9")
    method = SelfDistillation(config)
    groups = parameter_groups(method.student, config.model.dims[1], config.optim)
    by_id = {id(p): group for group in groups for p in group["params"]}
    named = dict(method.student.named_parameters())
    assert sum(len(group["params"]) for group in groups) == len(by_id) == len(named)
    group = {name: by_id[id(p)] for name, p in named.items()}
    assert group["backbone.norm.weight"]["lr_factor"] == 1
    assert group["backbone.blocks.1.mlp.fc1.weight"]["lr_factor"] == pytest.approx(0.9)
    assert group["backbone.blocks.0.mlp.fc1.weight"]["lr_factor"] == pytest.approx(0.81)
    assert group["backbone.cls_token"]["lr_factor"] == pytest.approx(0.729)
    assert group["backbone.patch_embed.proj.weight"]["lr_factor"] == pytest.approx(0.729 * 0.2)
    assert group["dino_head.mlp.0.weight"]["lr_factor"] == 1
    undecayed = {name for name in named if group[name]["decay_factor"] == 0}
    assert {"backbone.norm.weight", "backbone.blocks.0.ls2.gamma", "dino_head.mlp.0.bias"} <= undecayed
    decayed = {"backbone.pos_embed", "backbone.cls_token", "backbone.mask_token", "dino_head.last_layer.weight_g"}
    assert not decayed & undecayed
    assert {name for name in named if group[name]["part"] == "last_layer"} == {n for n in named if "last_layer" in n}


def test_step_values_reach_the_groups(tiny):
    config = tiny()
    method = SelfDistillation(config)
    optimizer = build_optimizer(method.student, config.model.dims[1], config.optim)
    values = StepValues(lr=0.5, backbone_lr=0.25, last_layer_lr=0.0, weight_decay=0.3, momentum=1, temperature=1)
    set_step_values(optimizer, values)
    for group in optimizer.param_groups:
        rate = {"backbone": 0.25, "head": 0.5, "last_layer": 0}[group["part"]]
        assert group["lr"] == rate * group["lr_factor"]
        assert group["weight_decay"] == 0.3 * group["decay_factor"]


def test_modules_are_clipped_each_on_its_own():
    student = torch.nn.ModuleDict({"backbone": torch.nn.Linear(3, 3), "dino_head": torch.nn.Linear(3, 3)})
    for scale, module in zip((100.0, 0.01), student.values(), strict=True):
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, scale)
    before = student["dino_head"].weight.grad.clone()
    norms = clip_gradients(student, 3.0)
    clipped = torch.cat([p.grad.flatten() for p in student["backbone"].parameters()]).norm()
    assert clipped == pytest.approx(3.0, rel=1e-4)
    assert norms["backbone"] == pytest.approx(100 * 12**0.5, rel=1e-4)
    assert torch.equal(student["dino_head"].weight.grad, before)
    assert clip_gradients(student, 0)["backbone"] == pytest.approx(3.0, rel=1e-4)  # measured, not clipped
