import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lvd_pretrain.augment import Photometry
from lvd_pretrain.config import LossConfig
from lvd_pretrain.data import build_loader
from lvd_pretrain.errors import InputError
from lvd_pretrain.losses import dino_loss, ibot_loss, koleo_loss
from lvd_pretrain.method import SelfDistillation
from lvd_pretrain.sinkhorn import sinkhorn_knopp
from lvd_pretrain.sources import open_images
from lvd_pretrain.train import views_of


def views(config):
    batch = next(iter(build_loader(open_images(config.data), config, 0, 0, 1)))
    return views_of(batch, Photometry(config.augment, torch.device("cpu")))


def build(config):
    torch.manual_seed(0)
    return SelfDistillation(config)


def test_terms_equal_the_plain_objective(tiny):
    """The same losses from separate unpacked forwards, crop list by crop list."""
    config = tiny("model.drop_path=0.0", "model.registers=2")
    method, v = build(config), views(config)
    losses = method(v, 0.05)

    teacher, student = method.teacher, method.student
    with torch.no_grad():
        (tokens,) = teacher["backbone"]([v.global_crops])
        cls_targets = sinkhorn_knopp(teacher["dino_head"](tokens.cls).dense(), 0.05, 3).view(2, 4, -1)
        patch_targets = sinkhorn_knopp(teacher["ibot_head"](tokens.patches[v.masks]).dense(), 0.05, 3)
    (large,) = student["backbone"]([v.global_crops], [v.masks])
    (small,) = student["backbone"]([v.local_crops])
    logits = torch.cat([student["dino_head"](part.cls).dense() for part in (large, small)]).view(4, 4, -1)
    shared, local = dino_loss(cls_targets, logits, 0.1)
    weights = torch.cat([torch.full((int(n),), 1 / float(n)) for n in v.masks.sum(1) if n])
    ibot = ibot_loss(patch_targets, student["ibot_head"](large.patches[v.masks]).dense(), weights, 8, 0.1)
    koleo = 0.1 * (koleo_loss(large.cls[:4]) + koleo_loss(large.cls[4:]))
    for name, value in (("dino_global", shared), ("dino_local", local), ("ibot", ibot), ("koleo", koleo)):
        assert losses[name].item() == pytest.approx(value.item(), abs=1e-5), name


def test_terms_start_at_the_closed_forms(tiny):
    wide = ("dino_head.bottleneck=512", "ibot_head.bottleneck=512")  # random cosines near 0: uniform predictions
    config = tiny("crops.local_number=8", "model.layerscale=1e-5", "model.drop_path=0.0", *wide)
    method = build(config)
    losses = method(views(config), 0.07)
    assert losses["dino_global"].item() == pytest.approx(math.log(64) / 9, rel=0.05)
    assert losses["dino_local"].item() == pytest.approx(math.log(64) * 8 / 9, rel=0.05)
    assert losses["ibot"].item() == pytest.approx(math.log(48) / 2, rel=0.05)  # half of the crops are masked


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    local=st.integers(0, 8),
    prototypes=st.integers(2, 200),
    probability=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    fused=st.sampled_from(["true", "false"]),
    centering=st.sampled_from(["sinkhorn_knopp", "ema"]),
)
def test_uniform_predictions_cost_the_closed_forms(tiny, local, prototypes, probability, fused, centering):
    """With all logits 0 a cross-entropy is ln K whatever its target: what is left are the terms' weights."""
    config = tiny(
        f"crops.local_number={local}",
        f"dino_head.prototypes={prototypes}",
        f"ibot_head.prototypes={prototypes + 1}",
        f"masks.probability={probability}",
        f"loss.fused={fused}",
        f"teacher.centering={centering}",
    )
    method = build(config)
    for head in ("dino_head", "ibot_head"):
        torch.nn.init.zeros_(method.student[head].last_layer.weight_g)
    losses = method(views(config), 0.05)
    assert losses["dino_global"].item() == pytest.approx(math.log(prototypes) / (1 + local), rel=1e-4)
    assert losses["dino_local"].item() == pytest.approx(math.log(prototypes) * local / (1 + local), rel=1e-4)
    assert losses["ibot"].item() == pytest.approx(math.log(prototypes + 1) * probability, rel=1e-4)


def test_teacher_starts_as_the_student_and_follows_it_by_ema(tiny):
    method = build(tiny())
    pairs = list(zip(method.teacher.parameters(), method.student.parameters(), strict=True))
    assert all(torch.equal(t, s) for t, s in pairs)
    before = [t.clone() for t, _ in pairs]
    with torch.no_grad():
        for _, s in pairs:
            s.add_(1.0)
    method.update_teacher(0.9)
    for (t, s), old in zip(pairs, before, strict=True):
        assert torch.allclose(t, 0.9 * old + 0.1 * s, atol=1e-6)


def test_only_the_student_learns_and_the_teacher_never_drops_paths(tiny):
    config = tiny("model.drop_path=0.5")
    method = build(config).train()
    assert not method.teacher.training
    assert method.student.training
    sum(method(views(config), 0.05).values()).backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.student.parameters())


@pytest.mark.parametrize(
    ("overrides", "terms"),
    [
        (["loss.ibot=0", "loss.koleo=0", "teacher.centering=ema"], {"dino_global", "dino_local"}),
        (["loss.koleo=0", "loss.ibot_separate_head=false"], {"dino_global", "dino_local", "ibot"}),
        (["teacher.centering=ema"], {"dino_global", "dino_local", "ibot", "koleo"}),
        (["crops.local_number=0"], {"dino_global", "dino_local", "ibot", "koleo"}),
    ],
    ids=["classic DINO", "tied heads", "ema centering", "no local crops"],
)
def test_variants_give_their_terms_and_gradients_everywhere(tiny, overrides, terms):
    config = tiny(*overrides)
    method = build(config).train()
    losses = method(views(config), 0.05)
    assert set(losses) == terms
    sum(losses.values()).backward()
    missing = [name for name, p in method.student.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    assert ("ibot_head" in method.student) == ("ibot" in terms and "loss.ibot_separate_head=false" not in overrides)


@pytest.mark.parametrize(
    "overrides",
    [[], ["teacher.centering=ema"], ["loss.ibot_separate_head=false"], ["masks.probability=0"]],
    ids=["sinkhorn", "ema", "tied heads", "nothing masked"],
)
def test_fused_losses_are_the_dense_ones_with_gradients(tiny, overrides):
    terms, gradients = [], []
    for fused in ("true", "false"):
        config = tiny("model.drop_path=0.0", *overrides, f"loss.fused={fused}")
        method = build(config).train()
        losses = method(views(config), 0.05)
        sum(losses.values()).backward()
        terms.append({name: value.item() for name, value in losses.items()})
        gradients.append([p.grad for p in method.student.parameters() if p.grad is not None])
    assert terms[0] == pytest.approx(terms[1], rel=1e-5)
    assert len(gradients[0]) == len(gradients[1])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()) + 1e-9)


def test_losses_fuse_by_themselves_where_dense_ones_would_be_large():
    loss = LossConfig()
    assert loss.fuses(3771, 65536)  # ViT-L/16, 64 images: masked patches by prototypes
    assert loss.fuses(128, 65536)
    assert not loss.fuses(127, 65536)
    assert LossConfig(fused="true").fuses(1, 2)
    assert not LossConfig(fused="false").fuses(10**6, 10**6)
    with pytest.raises(InputError, match=r"loss\.fused=maybe"):
        LossConfig(fused="maybe")
