"""The step without data: what it counts is what the same step holds with data."""

import copy

import pytest
import torch

from lvd_pretrain.masks import batch_masks, masked_patches
from lvd_pretrain.method import SelfDistillation
from lvd_pretrain.rehearsal import FLOAT32, Held, blank_views, rehearse, size_of


def hold_for_real(config) -> int:
    """Bytes beside weights at the peak of a step with numbers in it."""
    method = SelfDistillation(config).train()
    grid = config.crops.global_size // config.model.patch_size
    masks = batch_masks(2 * config.optim.batch_size, grid, config.masks.probability, config.masks.ratio, [0, 0])
    places, weights = (torch.from_numpy(part) for part in masked_patches(masks))
    with Held() as held:
        method = copy.deepcopy(method)  # made in sight
        weights_alone = held.bytes
        blank = blank_views(config)
        crops = [torch.rand_like(blank.global_crops), torch.rand_like(blank.local_crops)]
        views = blank._replace(global_crops=crops[0], local_crops=crops[1], masked=places, masked_weights=weights)
        del blank, crops
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.precision == "bf16"):
            losses = method(views, config.teacher.temperature[0])
        torch.stack(list(losses.values())).sum().backward()
    return held.peak - weights_alone


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("precision=bf16", "model.ffn=swiglu", "model.registers=2"),
        ("loss.fused=true", "optim.batch_size=16"),
        ("model.depth=4", "model.drop_path=0.3"),
    ],
    ids=str,
)
def test_a_rehearsal_holds_what_the_step_holds(words, tiny):
    config = tiny(*words)
    # 1 % as a rule; what a cycle of references still holds at the peak depends on when the collector ran last.
    assert rehearse(config).activations == pytest.approx(hold_for_real(config), rel=0.05)


def test_checkpointing_of_activations_shows(tiny):
    whole, again = (
        rehearse(tiny("model.depth=4", f"optim.activation_checkpointing={asked}")) for asked in ("false", "true")
    )
    assert again.activations < 0.8 * whole.activations


def test_a_kernel_of_gpus_is_rehearsed_without_one(tiny):
    assert rehearse(tiny("precision=bf16", "model.attention=varlen")) == rehearse(tiny("precision=bf16"))


def test_weights_are_counted_as_they_are(tiny):
    config = tiny()
    method, found = SelfDistillation(config), rehearse(config)
    assert (found.student, found.frozen) == (size_of(method.student), size_of(method.teacher))
    blocks = method.student["backbone"].blocks
    assert found.unit == size_of(blocks[0].mlp)
    inside = 2 * sum(size_of(block.attn) + size_of(block.mlp) for block in blocks)
    assert found.outside == found.student + found.frozen - inside
    assert found.backbone % FLOAT32 == 0
    assert found.backbone < found.student


def test_twice_the_images_hold_twice_the_activations(tiny):
    small, large = (rehearse(tiny(f"optim.batch_size={batch}", "loss.fused=true")) for batch in (8, 16))
    assert 1.7 < large.activations / small.activations < 2.05
    assert large.student == small.student
