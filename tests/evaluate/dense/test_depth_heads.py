import pytest
import torch
import torch.nn.functional as F

from lvd_evaluate.config import DepthConfig
from lvd_evaluate.dense.depth_heads import BinsHead, DptHead, TokenMaps, build_head, expected_depth, pick_layers

CONFIG = DepthConfig(min_depth=0.5, max_depth=4.0, bins=12)
SIZES = {"lin.1": (20, 12), "lin.4": (20, 12), "dpt": (80, 48)}


def draw_tokens(batch=2, layers=4, grid=(5, 3), width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return TokenMaps(
        torch.randn(batch, layers, width, generator=generator),
        torch.randn(batch, layers, *grid, width, generator=generator),
    )


@pytest.mark.parametrize("kind", SIZES)
def test_heads_give_depths_in_range_on_a_finer_grid_and_every_weight_learns(kind):
    head = build_head(kind, 8, CONFIG, seed=0)
    depth = head(draw_tokens())
    assert depth.shape == (2, *SIZES[kind])
    assert depth.min() >= CONFIG.min_depth
    if kind != "dpt":
        assert depth.max() <= CONFIG.max_depth
    (depth - 2).square().mean().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", SIZES)
def test_heads_learn_a_depth_that_the_tokens_tell(kind):
    tokens = draw_tokens(batch=1, grid=(4, 4))
    truth = 1.5 + 0.5 * tokens.patches[:, -1, ..., 0].tanh()  # [B, h, w]
    truth = F.interpolate(truth[:, None], size=(64, 64) if kind == "dpt" else (16, 16), mode="bilinear")[:, 0]
    torch.manual_seed(0)
    head = DptHead(8, 0.5, 4.0, channels=24) if kind == "dpt" else build_head(kind, 8, CONFIG, seed=0)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3 if kind == "dpt" else 3e-2)
    for _ in range(80):
        loss = (head(tokens) - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.sqrt() < 0.5 * truth.std()


def test_cls_as_a_bias_and_late_enlarging_equal_the_written_out_protocol():
    head, tokens = build_head("lin.4", 8, CONFIG, seed=1), draw_tokens()
    assert isinstance(head, BinsHead)
    maps = [
        torch.cat([tokens.patches[:, layer], tokens.cls[:, layer, None, None].expand(-1, 5, 3, -1)], dim=3)
        for layer in range(4)
    ]
    inputs = torch.cat(maps, dim=3).permute(0, 3, 1, 2)  # [B, 2 D L, h, w]
    inputs = F.interpolate(inputs, scale_factor=4, mode="bilinear", align_corners=False)
    per_layer = zip(head.patches.weight.split(8, dim=1), head.cls.weight.split(8, dim=1), strict=True)
    kernel = torch.cat([torch.cat(pair, dim=1) for pair in per_layer], dim=1)
    logits = F.conv2d(inputs, kernel[:, :, None, None], head.patches.bias)
    shares = logits.relu() + 0.1
    expected = ((shares / shares.sum(1, keepdim=True)) * head.centres[:, None, None]).sum(1)
    torch.testing.assert_close(head(tokens), expected)


def test_lin1_reads_the_last_layer_only():
    head, tokens = build_head("lin.1", 8, CONFIG, seed=0), draw_tokens()
    last = TokenMaps(tokens.cls[:, -1:], tokens.patches[:, -1:])
    assert torch.equal(head(tokens), head(last))


def test_expected_depth_of_known_shares():
    logits = torch.tensor([[-5.0, 0.9, -1.0], [0.0, 0.0, 0.0]])
    centres = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(expected_depth(logits, centres), torch.tensor([(0.1 + 2.0 + 0.3) / 1.2, 2.0]))


@pytest.mark.parametrize(
    ("num_layers", "layers"),
    [
        (12, [2, 5, 8, 11]),
        (24, [4, 11, 17, 23]),
        (40, [9, 19, 29, 39]),
        (8, [1, 3, 5, 7]),
        (5, [0, 1, 3, 4]),
        (1, [0] * 4),
    ],
)
def test_layers_are_the_released_ones_or_evenly_spaced(num_layers, layers):
    assert pick_layers(num_layers, ["lin.1", "lin.4"]) == layers
    assert pick_layers(num_layers, ["dpt"]) == layers
    assert pick_layers(num_layers, ["lin.1"]) == [num_layers - 1]


def test_weights_depend_on_the_seed_and_on_nothing_drawn_before():
    first = build_head("lin.1", 8, CONFIG, seed=3)
    torch.randn(7)
    assert torch.equal(first.patches.weight, build_head("lin.1", 8, CONFIG, seed=3).patches.weight)
    assert not torch.equal(first.patches.weight, build_head("lin.1", 8, CONFIG, seed=4).patches.weight)
