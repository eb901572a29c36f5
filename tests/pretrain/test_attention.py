import torch

from lvd_pretrain.attention import Run, packed_attention, unpack


def dense_oracle(query, key, value, layout):
    """Softmax over all tokens with a block-diagonal mask, float64."""
    sample = torch.cat(
        [torch.arange(run.samples).repeat_interleave(run.length) + 1000 * i for i, run in enumerate(layout)]
    )
    scores = torch.einsum("ihd,jhd->hij", query.double(), key.double()) / query.shape[-1] ** 0.5
    scores = scores.masked_fill(sample[:, None] != sample[None, :], -torch.inf)
    return torch.einsum("hij,jhd->ihd", scores.softmax(-1), value.double())


def test_packed_attention_equals_the_block_diagonal_softmax_with_gradients():
    layout = [Run(3, 7), Run(5, 4), Run(1, 1)]
    tokens = 3 * 7 + 5 * 4 + 1
    torch.manual_seed(0)
    inputs = [torch.randn(tokens, 2, 8, requires_grad=True) for _ in range(3)]
    twins = [x.detach().clone().requires_grad_() for x in inputs]
    fast, slow = packed_attention(*inputs, layout), dense_oracle(*twins, layout)
    assert torch.allclose(fast.double(), slow, atol=1e-5)
    weights = torch.randn_like(fast)
    (fast * weights).sum().backward()
    (slow * weights.double()).sum().backward()
    for x, twin in zip(inputs, twins, strict=True):
        assert torch.allclose(x.grad, twin.grad.float(), atol=1e-5)


def test_unpack_gives_samples_in_order():
    parts = unpack(torch.arange(10), [Run(2, 3), Run(4, 1)])
    assert parts[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert parts[1].tolist() == [[6], [7], [8], [9]]
