"""Files of weights that others made: nothing in them is run, and each that cannot be used is named in one line."""

import pytest
import torch
from tests.hostile_files import Malice, deflated, saved

SPECS = (
    "{}.pth",
    "dinov2:{}.pth",
    "untrained:{}.pth",
    "timm:vit_tiny_patch16_224/{}.pth",
    "open_clip:ViT-B-32/{}.pth",
)


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "among tensors"])
@pytest.mark.parametrize("spec", SPECS)
def test_a_pickle_among_weights_is_not_run(refuse, trace, tmp_path, monkeypatch, spec, wrapped):
    monkeypatch.setattr("open_clip.factory.CLIP", lambda *words, **settings: torch.nn.Linear(1, 1))  # 600 MB else
    torch.save({"x": torch.ones(2), "y": Malice(trace)} if wrapped else Malice(trace), tmp_path / "w.pth")
    refuse(ckpt=spec.format(tmp_path / "w"))


def test_torchscript_is_no_file_of_weights(refuse, tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "scripted.pt")
    assert "TorchScript" in refuse(ckpt=tmp_path / "scripted.pt")


HOSTILE_WEIGHTS = {
    "empty.safetensors": b"",
    "header of 2^60 bytes.safetensors": (2**60).to_bytes(8, "little") + b"{}",
    "deep.safetensors": (50_000).to_bytes(8, "little") + b"[" * 50_000,
    "text.pth": b"<html>not found</html>",
    "cut.pth": saved({"a": torch.ones(1000)})[:900],
    "compressed.pth": deflated(),
    "a number.pth": saved(3),
    "numbered.pth": saved({1: torch.ones(2)}),
    "integers.pth": saved({"cls_token": torch.ones(1, 1, 64, dtype=torch.int64)}),
    "repeated by strides.pth": saved({"cls_token": torch.zeros(1).half().expand(1, 10**9, 10**6)}),
    "flat.pth": saved({name: torch.ones(64) for name in ("cls_token", "pos_embed", "patch_embed.proj.weight")}),
    "long number.pth": saved({f"blocks.{'9' * 5000}.x": torch.ones(1)}),
    "terminal codes.pth": saved({"\x1b]0;pwned\x07": torch.ones(1)}),
}


@pytest.mark.parametrize("name", HOSTILE_WEIGHTS)
def test_hostile_weights_are_refused_by_name(refuse, tmp_path, name):
    (tmp_path / name).write_bytes(HOSTILE_WEIGHTS[name])
    assert name in refuse(ckpt=tmp_path / name)


@pytest.mark.parametrize("spec", ["timm:vit_tiny_patch16_224/{}", "open_clip:ViT-B-32/{}"])
def test_a_compressed_file_is_refused_wherever_weights_are_read(refuse, tmp_path, spec):
    (tmp_path / "w.pth").write_bytes(deflated())
    assert "is compressed" in refuse(ckpt=spec.format(tmp_path / "w.pth"))
