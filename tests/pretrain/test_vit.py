import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from lvd_pretrain import vit
from lvd_pretrain.attention import Run
from lvd_pretrain.config import ModelConfig
from lvd_pretrain.vit import AddRows, Block, VisionTransformer, sample_rows

SHAPE = {"arch": "vit_tiny", "width": 32, "depth": 2, "heads": 2, "patch_size": 8, "layerscale": 0.5}


def build(image_size: int = 32, **changes) -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer(ModelConfig(**{**SHAPE, "drop_path": 0.0, **changes}), image_size)
    for parameter in model.parameters():  # far from the near-zero initial tokens
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize("changes", [{}, {"registers": 3}, {"ffn": "swiglu"}], ids=["plain", "registers", "swiglu"])
def test_packed_crops_equal_separate_forwards(changes):
    model = build(**changes).eval()
    large, small = torch.randn(3, 3, 32, 32), torch.randn(5, 3, 16, 16)
    masks = torch.rand(3, 16) < 0.4
    together = model([large, small], [masks, None])
    apart = [model([large], [masks])[0], model([small])[0]]
    for packed, single in zip(together, apart, strict=True):
        for a, b in zip(packed, single, strict=True):
            assert torch.allclose(a, b, atol=1e-5)
    assert together[0].registers.shape == (3, changes.get("registers", 0), 32)
    assert together[1].patches.shape == (5, 4, 32)


def test_parameter_count_of_the_papers_small_model():
    model = VisionTransformer(ModelConfig(arch="vit_small", patch_size=14), 518)
    assert sum(p.numel() for p in model.parameters()) == 22_056_576  # the released ViT-S/14
    names = set(model.state_dict())
    assert {"cls_token", "pos_embed", "mask_token", "patch_embed.proj.weight", "norm.bias"} <= names
    assert {"blocks.11.attn.qkv.bias", "blocks.0.ls1.gamma", "blocks.3.mlp.fc2.weight"} <= names


def test_swiglu_hidden_sizes_are_the_papers():
    for width, hidden in ((384, 1024), (768, 2048), (1024, 2736), (1536, 4096)):
        block = Block(ModelConfig(arch="vit_tiny", width=width, heads=width // 64, ffn="swiglu"))
        assert block.mlp.w3.in_features == hidden


def test_masked_patches_are_not_seen():
    model = build().eval()
    images = torch.randn(2, 3, 32, 32)
    masks = torch.zeros(2, 16, dtype=torch.bool)
    masks[:, 5] = True
    changed = images.clone()
    changed[:, :, 8:16, 8:16] = 7.0  # patch row 1, column 1 = index 5
    assert torch.allclose(model([images], [masks])[0].cls, model([changed], [masks])[0].cls)
    assert not torch.allclose(model([images])[0].cls, model([changed])[0].cls)


def test_position_embedding_is_native_at_its_grid_and_trains_through_the_resize():
    model = build()
    assert model.position_embedding(4, 4) is model.pos_embed
    resized = model.position_embedding(2, 3)
    assert resized.shape == (1, 7, 32)
    resized.sum().backward()
    assert model.pos_embed.grad.abs().sum() > 0


def test_offset_and_antialias_are_different_resamplings():
    plain, antialias, offset = (
        build(pos_embed_antialias=False),
        build(pos_embed_antialias=True),
        build(pos_embed_offset=0.1),
    )
    maps = [model.position_embedding(2, 2) for model in (plain, antialias, offset)]
    assert not torch.allclose(maps[0], maps[1], atol=1e-3)
    assert not torch.allclose(maps[0], maps[2], atol=1e-3)


def test_sampled_rows_keep_whole_samples_and_stay_unbiased():
    layout = [Run(4, 3), Run(6, 2)]
    torch.manual_seed(0)
    rows, kept, scale = sample_rows(layout, 0.4, torch.device("cpu"))
    assert kept == [Run(2, 3), Run(3, 2)]
    assert scale.flatten().unique().tolist() == [2.0]
    large, small = rows[:6].view(2, 3), rows[6:].view(3, 2)
    assert (large % 3).tolist() == [[0, 1, 2]] * 2
    assert (large // 3).max() < 4
    assert small.min() >= 12
    assert ((small - 12) % 2).tolist() == [[0, 1]] * 3


def test_stochastic_depth_leaves_dropped_samples_alone_and_skips_their_compute():
    torch.manual_seed(0)
    block = Block(ModelConfig(**{**SHAPE, "drop_path": 0.5})).train()
    seen = []
    block.mlp.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    x = torch.randn(8 * 4, 32)
    out = block(x, [Run(8, 4)])
    assert seen == [4 * 4]
    untouched = (out == x).all(1).view(8, 4).all(1)
    assert 0 < untouched.sum() <= 4
    assert not block.eval()(x, [Run(8, 4)]).eq(x).any()


def test_adding_rows_has_the_gradients_of_index_add_and_keeps_no_update():
    torch.manual_seed(0)
    x, update = (torch.randn(count, 3, dtype=torch.float64, requires_grad=True) for count in (7, 4))
    rows = torch.tensor([5, 0, 3, 6])
    assert torch.equal(AddRows.apply(x, rows, update), x.index_add(0, rows, update))
    assert torch.autograd.gradcheck(lambda *leaves: AddRows.apply(leaves[0], rows, leaves[1]), (x, update))
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        AddRows.apply(x, rows, update)
    assert [tensor.dtype for tensor in kept] == [torch.int64]


def test_mean_over_draws_approaches_the_full_branch():
    torch.manual_seed(0)
    block = Block(ModelConfig(**{**SHAPE, "drop_path": 0.5}))
    block._feed_forward = lambda x, layout: torch.zeros_like(x)  # one branch only: two would not be linear
    x, layout = torch.randn(6, 32), [Run(6, 1)]
    mean = torch.stack([block.train()(x, layout) for _ in range(3000)]).mean(0)
    assert torch.allclose(mean, block.eval()(x, layout), atol=0.05)


def test_each_branch_and_crop_list_draws_its_own_samples_and_equals_the_oracle(monkeypatch):
    """Recorded draws, then the plain sum: kept samples get their branch times b / s, the others nothing."""
    torch.manual_seed(0)
    block = build(drop_path=0.4).blocks[0].train()
    layout, tokens = [Run(5, 3), Run(8, 2)], 5 * 3 + 8 * 2
    draws = []
    monkeypatch.setattr(vit, "sample_rows", lambda *args: draws.append(sample_rows(*args)) or draws[-1])
    x = torch.randn(tokens, 32)
    out = block(x, layout)
    assert [kept for _, kept, _ in draws] == [[Run(3, 3), Run(4, 2)]] * 2
    assert not torch.equal(draws[0][0], draws[1][0])
    for (rows, _, scale), branch in zip(draws, (block._attend, block._feed_forward), strict=True):
        factor = torch.zeros(tokens, 1)
        factor[rows] = scale
        assert factor[:15].unique().tolist() == pytest.approx([0, 5 / 3])
        assert factor[15:].unique().tolist() == [0, 2]
        x = x + factor * branch(x, layout)
    assert torch.allclose(out, x, atol=1e-5)


@pytest.mark.parametrize(("rate", "share"), [(0.0, 1.0), (0.25, 0.75), (0.5, 0.5)])
def test_dropped_samples_cost_no_flops(rate, share):
    layout, x = [Run(4, 9), Run(8, 4)], torch.randn(4 * 9 + 8 * 4, 32)

    def flops(drop_path: float) -> int:
        block = Block(ModelConfig(**{**SHAPE, "drop_path": drop_path})).train()
        with FlopCounterMode(display=False) as counter:
            block(x, layout).sum().backward()
        return counter.get_total_flops()

    assert flops(rate) == share * flops(0.0)


@settings(max_examples=50, deadline=None)
@given(samples=st.integers(1, 40), rate=st.sampled_from([0.1, 0.25, 0.3, 0.4, 0.5, 0.95]))
def test_the_subset_is_the_floor_and_never_empty(samples, rate):
    _, (kept,), scale = sample_rows([Run(samples, 2)], rate, torch.device("cpu"))
    assert kept.samples == max(int(samples * (1 - rate)), 1)
    assert torch.allclose(scale, torch.tensor(samples / kept.samples))


def test_checkpointed_blocks_give_the_same_gradients_for_less_memory(tiny):
    """The samples a branch skips are drawn again as they were; only the blocks' inputs are kept."""
    config = tiny("model.drop_path=0.5", "model.depth=6")
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def gradients(checkpointing: bool) -> tuple[list[torch.Tensor], int]:
        torch.manual_seed(0)
        backbone = VisionTransformer(config.model, 32)
        for block in backbone.blocks:
            block.checkpointing = checkpointing
        kept = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            (tokens,) = backbone([images])
        tokens.cls.square().sum().backward()
        return [parameter.grad for parameter in backbone.parameters() if parameter.grad is not None], kept

    plain, all_kept = gradients(False)
    again, few_kept = gradients(True)
    assert len(plain) == len(again) > 50
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))
    assert few_kept < all_kept / 3


@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
def test_activations_are_computed_again_and_matrix_products_are_not(ffn, monkeypatch):
    block = build(ffn=ffn, mlp_ratio=12.0).blocks[0].train()
    x = torch.randn(64, 32)

    def backward() -> tuple[torch.Tensor, int, int]:
        kept: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        leaf = x.clone().requires_grad_()
        with FlopCounterMode(display=False) as flops, torch.autograd.graph.saved_tensors_hooks(note, lambda it: it):
            block.mlp(leaf).sum().backward()
        return leaf.grad, flops.get_total_flops(), sum(kept.values())

    lean, lean_flops, lean_kept = backward()
    monkeypatch.setattr(vit, "keep_inputs", lambda function, x: function(x))
    plain, plain_flops, plain_kept = backward()
    assert torch.equal(lean, plain)
    assert lean_flops == plain_flops
    assert lean_kept < 0.8 * plain_kept
