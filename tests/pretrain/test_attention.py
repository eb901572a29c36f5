import sys
from types import ModuleType

import pytest
import torch

from lvd_pretrain import attention
from lvd_pretrain.attention import Run, check_attention, choose_kernel, packed_attention, unpack
from lvd_pretrain.errors import InputError

LAYOUT = [Run(3, 7), Run(5, 4), Run(1, 1)]
TOKENS = 3 * 7 + 5 * 4 + 1
CUDA = torch.device("cuda", 0)
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def forget_choices():
    for cached in (attention.has_xformers, attention._say_missing, attention._block_diagonal_mask):
        cached.cache_clear()


def by_lengths(query, key, value, lengths):
    """Softmax over all tokens with a block-diagonal mask, float64."""
    sample = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(query.device)
    scores = torch.einsum("ihd,jhd->hij", query.double(), key.double()) / query.shape[-1] ** 0.5
    scores = scores.masked_fill(sample[:, None] != sample[None, :], -torch.inf)
    return torch.einsum("hij,jhd->ihd", scores.softmax(-1), value.double())


def dense_oracle(query, key, value, layout):
    return by_lengths(query, key, value, [run.length for run in layout for _ in range(run.samples)])


def draw(heads=2, dim=8):
    torch.manual_seed(0)
    return [torch.randn(TOKENS, heads, dim, requires_grad=True) for _ in range(3)]


def test_packed_attention_equals_the_block_diagonal_softmax_with_gradients():
    inputs = draw()
    twins = [x.detach().clone().requires_grad_() for x in inputs]
    fast, slow = packed_attention(*inputs, LAYOUT), dense_oracle(*twins, LAYOUT)
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


def test_xformers_is_given_the_samples_as_blocks(monkeypatch):
    """A stand-in for the package that takes its arguments and computes what it documents."""
    ops, bias = ModuleType("xformers.ops"), ModuleType("xformers.ops.fmha.attn_bias")

    class BlockDiagonalMask:
        @classmethod
        def from_seqlens(cls, lengths, *, device):
            mask = cls()
            mask.lengths = lengths
            return mask

    def memory_efficient_attention(query, key, value, attn_bias):
        assert query.shape[0] == 1
        return by_lengths(query[0], key[0], value[0], attn_bias.lengths).to(query.dtype).unsqueeze(0)

    ops.memory_efficient_attention, bias.BlockDiagonalMask = memory_efficient_attention, BlockDiagonalMask
    for name, module in (("xformers", ModuleType("xformers")), ("xformers.ops", ops)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "xformers.ops.fmha", ModuleType("xformers.ops.fmha"))
    monkeypatch.setitem(sys.modules, "xformers.ops.fmha.attn_bias", bias)
    monkeypatch.setattr(attention, "choose_kernel", lambda *_: "xformers")
    assert torch.allclose(packed_attention(*draw(), LAYOUT).double(), dense_oracle(*draw(), LAYOUT), atol=1e-5)


def test_varlen_is_given_where_samples_end(monkeypatch):
    def varlen_attn(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k):
        assert cu_seq_q.dtype == torch.int32
        assert torch.equal(cu_seq_q, cu_seq_k)
        lengths = cu_seq_q.diff().tolist()
        assert max_q == max_k == max(lengths)
        return by_lengths(query, key, value, lengths).to(query.dtype)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)
    monkeypatch.setattr(attention, "choose_kernel", lambda *_: "varlen")
    assert torch.allclose(packed_attention(*draw(), LAYOUT).double(), dense_oracle(*draw(), LAYOUT), atol=1e-5)


def test_pytorchs_own_kernel_takes_what_it_is_given():
    """The real operator's signature, on tensors without data: argument names and order are PyTorch's."""
    with torch.device("meta"):
        query, key, value = (torch.empty(TOKENS, 2, 8, dtype=torch.bfloat16) for _ in range(3))
    assert attention._varlen(query, key, value, tuple(LAYOUT)).shape == (TOKENS, 2, 8)


def test_auto_takes_the_first_kernel_that_can(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(attention, "has_xformers", lambda: True)
    assert choose_kernel("auto", CUDA, torch.bfloat16, 64) == "xformers"
    assert choose_kernel("auto", CUDA, torch.float32, 64) == "sdpa"
    assert choose_kernel("auto", CUDA, torch.bfloat16, 20) == "sdpa"
    assert choose_kernel("auto", torch.device("cpu"), torch.bfloat16, 64) == "sdpa"
    assert choose_kernel("varlen", CUDA, torch.bfloat16, 64) == "varlen"
    assert choose_kernel("sdpa", CUDA, torch.bfloat16, 64) == "sdpa"
    assert capsys.readouterr().err == ""


def test_missing_xformers_is_said_once(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(attention, "has_xformers", lambda: False)
    monkeypatch.delenv("RANK", raising=False)
    for dim in (64, 128, 64):
        assert choose_kernel("auto", CUDA, torch.bfloat16, dim) == "varlen"
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    assert choose_kernel("auto", CUDA, torch.float16, 64) == "sdpa"


def test_a_kernel_asked_for_by_name_and_missing_is_refused(monkeypatch):
    for name in ("auto", "sdpa"):
        check_attention(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"model\.attention=varlen runs on CUDA"):
        check_attention("varlen")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_attention("varlen")
    monkeypatch.setattr(attention, "has_xformers", lambda: False)
    with pytest.raises(InputError, match="xformers is not installed"):
        check_attention("xformers")


@gpu
@pytest.mark.parametrize("name", ["xformers", "varlen", "sdpa"])
def test_kernels_agree_with_the_oracle_on_a_gpu(name):
    if name == "xformers":
        pytest.importorskip("xformers")
    inputs = [x.detach().to(CUDA, torch.bfloat16).requires_grad_() for x in draw(dim=64)]
    twins = [x.detach().double().requires_grad_() for x in inputs]
    fast, slow = packed_attention(*inputs, LAYOUT, name), dense_oracle(*twins, LAYOUT)
    fast.sum().backward()
    slow.sum().backward()
    assert torch.allclose(fast.double(), slow, atol=2e-2)
    for x, twin in zip(inputs, twins, strict=True):
        assert torch.allclose(x.grad.double(), twin.grad, atol=5e-2)
