"""Weights that others made, to start from or to learn from: nothing in them is run, what is wrong is named."""

import json

import pytest
import torch
from tests.hostile_files import Malice, deflated, saved

from lvd_pretrain.pretrained import open_pretrained


@pytest.fixture(scope="module")
def weights(stopped_run):
    """The tensors of a backbone, in the official layout."""
    return open_pretrained(str(stopped_run)).backbone


WAYS_IN = ("init_from={}", "distill.teacher={}", "init_from=timm:vit_small_patch14_dinov2/{}")


@pytest.mark.parametrize("way", WAYS_IN)
@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "among tensors"])
def test_a_pickle_among_weights_is_not_run(refuse, trace, weights, tmp_path, way, wrapped):
    file = tmp_path / "weights.pth"
    torch.save({**weights, "extra": Malice(trace)} if wrapped else Malice(trace), file)
    line = refuse(way.format(file), "model.drop_path=0")
    assert "nothing is unpickled" in line
    assert "weights_only" not in line  # PyTorch's advice, to unpickle it all the same


def safetensors(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def after(change):
    """A file of PyTorch's: the weights after `change`."""
    return lambda weights: saved(change(dict(weights)))


def without(*names):
    return lambda weights: {name: tensor for name, tensor in weights.items() if name not in names}


def swap(name, change):
    return lambda weights: weights | {name: change(weights[name])}


HOSTILE_WEIGHTS = {
    "empty.safetensors": b"",
    "cut.safetensors": safetensors({"cls_token": entry([9], 0, 36)}, b"\0" * 9),
    "header of 2^60 bytes.safetensors": safetensors({}, length=2**60),
    "header of 2^64 - 1 bytes.safetensors": safetensors({}, length=2**64 - 1),
    "overlapping.safetensors": safetensors({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)),
    "absurd shape.safetensors": safetensors({"a": entry([2**62, 2**62], 0, 4)}, bytes(4)),
    "negative.safetensors": safetensors({"a": entry([-1], 0, 4)}, bytes(4)),
    "unknown type.safetensors": safetensors({"a": entry([1], 0, 4, "F4096")}, bytes(4)),
    "a list.safetensors": safetensors([1, 2]),
    "deep.safetensors": safetensors(b"[" * 50_000),
    "integers.safetensors": safetensors({"cls_token": entry([1], 0, 8, "I64")}, bytes(8)),
    "text.pth": b"<html>not found</html>",
    "cut.pth": lambda weights: saved(dict(weights))[:2000],
    "compressed.pth": deflated(),
    "a list.pth": after(lambda weights: list(weights.values())),
    "a number.pth": after(lambda weights: 3),
    "numbered.pth": after(lambda weights: dict(enumerate(weights.values()))),
    "nan.pth": after(swap("norm.weight", lambda tensor: tensor * float("nan"))),
    "infinite.pth": after(swap("pos_embed", lambda tensor: tensor / 0)),
    "sparse.pth": after(swap("norm.weight", lambda tensor: tensor.to_sparse())),
    "complex.pth": after(swap("norm.weight", lambda tensor: tensor.to(torch.complex64))),
    "repeated by strides.pth": after(swap("pos_embed", lambda _: torch.zeros(1).expand(1, 10**9, 10**6))),
    "no positions.pth": after(without("pos_embed")),
    "no feed-forward.pth": after(without("blocks.0.mlp.fc2.weight")),
    "flat positions.pth": after(swap("pos_embed", lambda tensor: tensor.flatten())),
    "no width.pth": after(swap("cls_token", lambda tensor: tensor[..., :0])),
    "a scalar.pth": after(swap("patch_embed.proj.weight", lambda tensor: tensor.sum())),
    "a billion blocks.pth": after(lambda weights: weights | {"blocks.999999999.norm1.weight": torch.zeros(32)}),
    "block 4000.pth": after(lambda weights: weights | {"blocks.4000.norm1.weight": torch.zeros(32)}),
    "long number.pth": after(lambda weights: weights | {f"blocks.{'9' * 5000}.x": torch.zeros(1)}),
    "terminal codes.pth": after(lambda weights: weights | {"\x1b]0;pwned\x07\x1b[2J": torch.zeros(1)}),
}


@pytest.mark.parametrize("name", HOSTILE_WEIGHTS)
def test_hostile_weights_are_refused_by_name(refuse, weights, tmp_path, name):
    content = HOSTILE_WEIGHTS[name]
    file = tmp_path / name
    file.write_bytes(content(weights) if callable(content) else content)
    assert str(file) in refuse(f"init_from={file}")
