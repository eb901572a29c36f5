"""The arithmetic that utilisation is measured in, held against torch's own counter on models small enough to run."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lvd_pretrain.augment import Photometry
from lvd_pretrain.data import build_loader
from lvd_pretrain.flops import step_flops
from lvd_pretrain.method import SelfDistillation
from lvd_pretrain.recipes import build_config, find_recipe
from lvd_pretrain.sources import open_images
from lvd_pretrain.train import views_of


def count_by_torch(config) -> int:
    (batch,) = build_loader(open_images(config.data), config, 0, 0, 1)
    views = views_of(batch, Photometry(config.augment, torch.device("cpu")))
    method = SelfDistillation(config).train()
    # Attention by plain products: of the fused kernels each version of torch counts others.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        sum(method(views, 0.05).values()).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ("model.drop_path=0.4 model.registers=2", "model.depth=4"),
        ("model.ffn=swiglu", "model.depth=3"),
        ("crops.local_number=0", "dino_head.prototypes=640"),
        ("loss.ibot_separate_head=false", "dino_head.hidden=160"),
        ("model.drop_path=0.0", "ibot_head.prototypes=960"),
    ],
)
def test_more_of_a_part_costs_what_torch_counts(words, more, tiny):
    common = ("optim.steps=1", "loss.fused=false", "loss.koleo=0", *words.split())
    less, much = tiny(*common), tiny(*common, more)
    counted = sum(step_flops(much).values()) - sum(step_flops(less).values())
    # torch counts the attention scores once more, which its backward pass computes again.
    assert counted == pytest.approx(count_by_torch(much) - count_by_torch(less), rel=0.015)


def test_the_whole_of_a_large_recipe_is_what_its_shapes_say():
    """ViT-L/16, 64 images, 0.3 of the samples dropped: 73.5 TFLOP by hand from the tokens kept."""
    config = build_config(find_recipe("vitl16_short"), ["optim.batch_size=64"])
    assert sum(step_flops(config).values()) == pytest.approx(73.5e12, rel=0.01)
