"""Every shipped recipe says what it needs, and those of the paper's code hold its numbers at the schedules' corners."""

import math

import pytest
import torch

from lvd_pretrain.recipes import RECIPES, build_config
from lvd_pretrain.schedules import Schedules
from lvd_pretrain.vit import VisionTransformer

SHIPPED = sorted(RECIPES.glob("*.yaml"))
GLOBAL_BATCH = {"vitl16_short": 2048, "vitl14": 3072, "vitg14": 3072, "dino_classic": 1024, "vits14": 1024}


def shipped(name):
    return build_config(RECIPES / f"{name}.yaml", [])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_its_header_says_what_it_takes_and_gives(path):
    config = build_config(path, [])
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    text = " ".join(line.lstrip("# ") for line in header)
    assert "Hardware: " in text
    assert "not yet run" in text or "results.md" in text
    assert config.teacher.temperature_warmup <= config.optim.steps
    assert config.optim.freeze_last_layer <= config.optim.steps


@pytest.mark.parametrize(
    ("name", "lr", "steps", "warmup", "weight_decay", "momentum"),
    [
        ("vitl16_short", 5.657e-3, 125_000, 12_500, 0.4, 0.992),
        ("vitl14", 3.464e-4, 625_000, 100_000, 0.2, 0.994),
        ("vitg14", 3.464e-4, 625_000, 100_000, 0.2, 0.994),
        ("dino_classic", 2e-3, 125_000, 12_500, 0.4, 0.996),
        ("vits14", 4e-3, 125_000, 12_500, 0.4, 0.992),
    ],
)
def test_schedules_pass_through_the_published_points(name, lr, steps, warmup, weight_decay, momentum):
    values = Schedules(shipped(name), GLOBAL_BATCH[name])
    start, peak, end = values(0), values(warmup), values(steps)
    assert start.lr == 0
    assert values(warmup - 1).lr == pytest.approx(lr, rel=1e-3)
    assert peak.lr == pytest.approx(lr, rel=1e-3)
    assert end.lr == pytest.approx(1e-6)
    halfway = values((warmup + steps) // 2).lr
    assert halfway == pytest.approx((lr + 1e-6) / 2, rel=1e-3)
    assert (start.weight_decay, end.weight_decay) == pytest.approx((0.04, weight_decay))
    assert (start.momentum, end.momentum) == pytest.approx((momentum, 1.0))
    assert start.temperature == pytest.approx(0.04)
    assert values(37_499).temperature < values(37_500).temperature == pytest.approx(0.07)
    assert values(1_249).last_layer_lr == 0 < values(1_250).last_layer_lr


def test_what_sets_the_published_recipes_apart():
    short, large, giant = shipped("vitl16_short"), shipped("vitl14"), shipped("vitg14")
    assert (short.optim.batch_size, large.optim.batch_size, giant.optim.batch_size) == (64, 32, 12)
    assert (short.teacher.centering, short.loss.ibot_separate_head) == ("ema", False)
    assert (short.model.patch_size, short.crops.local_size, short.model.ffn) == (16, 96, "mlp")
    assert (short.optim.layer_decay, short.model.drop_path) == (0.9, 0.3)
    assert (short.dino_head.prototypes, short.dino_head.bottleneck) == (65_536, 256)
    for config in (large, giant):
        assert (config.teacher.centering, config.loss.ibot_separate_head) == ("sinkhorn_knopp", True)
        assert (config.model.patch_size, config.crops.local_size, config.model.ffn) == (14, 98, "swiglu")
        assert (config.optim.layer_decay, config.model.drop_path) == (1.0, 0.4)
        assert (config.dino_head.prototypes, config.dino_head.bottleneck) == (131_072, 384)
        assert (config.ibot_head.prototypes, config.ibot_head.bottleneck) == (131_072, 256)
    for config in (short, large, giant):
        assert config.preset == "dinov2-released"
        assert (config.loss.koleo, config.optim.clip, config.optim.patch_embed_lr) == (0.1, 3.0, 0.2)
        assert (config.masks.probability, tuple(config.masks.ratio)) == (0.5, (0.1, 0.5))
    classic = shipped("dino_classic")
    assert (classic.loss.ibot, classic.loss.koleo, classic.teacher.centering) == (0.0, 0.0, "ema")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_backbones_have_the_parameters_their_shape_says(path):
    config = build_config(path, [])
    with torch.device("meta"):
        backbone = VisionTransformer(config.model, config.crops.global_size)
    count = sum(parameter.numel() for parameter in backbone.parameters())
    width, depth, _ = config.model.dims
    hidden = int(width * config.model.mlp_ratio)
    if config.model.ffn == "swiglu":
        inner = (int(hidden * 2 / 3) + 7) // 8 * 8
        feed = width * 2 * inner + 2 * inner + inner * width + width
    else:
        feed = 2 * hidden * width + hidden + width
    block = 4 * width * width + 4 * width + feed + 2 * 2 * width + 2 * width  # attention, ffn, norms, LayerScale
    tokens = 1 + (config.crops.global_size // config.model.patch_size) ** 2 + config.model.registers + 2
    patches = 3 * config.model.patch_size**2 * width + width
    assert count == depth * block + tokens * width + patches + 2 * width


@pytest.mark.parametrize(
    ("name", "millions"), [("vits14", 22), ("vitb14", 86), ("vitl14", 304), ("vitg14", 1136), ("vitl16_short", 304)]
)
def test_sizes_are_those_of_the_paper(name, millions):
    config = shipped(name)
    with torch.device("meta"):
        backbone = VisionTransformer(config.model, config.crops.global_size)
    count = sum(parameter.numel() for parameter in backbone.parameters()) / 1e6
    assert math.isclose(count, millions, rel_tol=0.02)
