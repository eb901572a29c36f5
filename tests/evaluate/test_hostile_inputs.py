"""What others made may be wrong or made to do harm: one line and exit code 2, nothing run, nothing lost.

docs/threats.md promises what is tested here.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from lvd_evaluate import cli

TITLE = "<img src=x onerror=document.title='pwned'><script>document.title='pwned'</script>"
CODES = "\x1b]0;pwned\x07\x1b[2J\u202e\udcff"
FAST = ["bootstrap=50", "knn.neighbours=[3]"]


class Malice:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def short(value: object) -> str:
    return repr(value)[:16]


@pytest.fixture
def trace(tmp_path):
    """A file that must not be there when the test ends: whoever unpickled what is hostile made it."""
    path = tmp_path / "unpickled"
    yield path
    assert not path.exists(), "code from an input was run"


@pytest.fixture
def call(monkeypatch, capsys):
    """`call("report", folder)`: exit code, stdout and stderr of evaluate in this process."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        printed = capsys.readouterr()
        for text in printed:
            assert "\x1b" not in text
            assert "Traceback" not in text
        return int(stopped.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def refuse(call, corpus, run_folder, tmp_path):
    """`refuse(ckpt=..., data=...)`: the one error line of evaluate knn."""

    def run(*words: object, ckpt: object = run_folder, data: object = corpus, out: object = None) -> str:
        code, _, told = call("knn", "--ckpt", ckpt, "--data", data, "--out", out or tmp_path / "out", *FAST, *words)
        line = told.splitlines()[-1]
        assert code == 2
        assert line.startswith("evaluate: error: ")
        assert not any(0x7F <= ord(letter) < 0xA0 for letter in line)
        return line

    return run


# ---- weights -------------------------------------------------------------------------------------------------------


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


def test_a_pickle_in_a_model_folder_is_not_run(refuse, trace, tmp_path, make_model):
    model = make_model(tmp_path / "model")
    (model / "model.safetensors").unlink()
    torch.save({"x": Malice(trace)}, model / "pytorch_model.bin")
    assert "cannot be loaded" in refuse(ckpt=model)


def test_torchscript_is_no_file_of_weights(refuse, tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "scripted.pt")
    assert "TorchScript" in refuse(ckpt=tmp_path / "scripted.pt")


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def deflated() -> bytes:
    """A PyTorch file whose members unfold: a hundredth of the size here, a millionth elsewhere."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved({"zeros": torch.zeros(100_000)}))) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return packed.getvalue()


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


# ---- model folders ---------------------------------------------------------------------------------------------------


@pytest.fixture
def model(run_folder, tmp_path):
    """A copy of a Model v1 folder."""
    return shutil.copytree((run_folder / "model").resolve(), tmp_path / "model")


def change(file: Path, **settings: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


CONFIGS = {
    "width of a billion": {"hidden_size": 10**9},
    "layers of a billion": {"num_hidden_layers": 10**9},
    "width of 100,000": {"hidden_size": 100_000, "num_attention_heads": 10},
    "patch of 0": {"patch_size": 0},
    "patch in words": {"patch_size": "wide"},
    "image of a billion": {"image_size": 10**9},
    "registers of a billion": {"num_register_tokens": 10**9},
    "no number": {"hidden_size": float("nan")},
    "heads of 0": {"num_attention_heads": 0},
    "width in words": {"hidden_size": "many"},
}


@pytest.mark.parametrize("seed", ["", "untrained:"], ids=["loaded", "untrained"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_config_allocates_nothing(refuse, model, name, seed):
    change(model / "config.json", **CONFIGS[name])
    assert str(model) in refuse(ckpt=f"{seed}{model}")


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", [b"", b"[1]", b"[" * 100_000, '{"a": 1}'.encode("utf-16"), b"\xff"], ids=short)
def test_json_that_is_no_object_is_refused(refuse, model, file, content):
    (model / file).write_bytes(content)
    assert str(model) in refuse(ckpt=model)


PROCESSORS = {
    "size of a billion": {"crop_size": {"height": 10**9, "width": 10**9}},
    "size in words": {"crop_size": "large"},
    "size of nothing": {"crop_size": {"depth": 1}},
    "one mean": {"image_mean": [0.5]},
    "mean in words": {"image_mean": ["a", "b", "c"]},
    "std of 0": {"image_std": [0, 0, 0]},
    "no numbers": {"image_mean": [float("nan")] * 3},
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_hostile_preprocessor_config_is_refused(refuse, model, name):
    change(model / "preprocessor_config.json", **PROCESSORS[name])
    assert str(model) in refuse(ckpt=model)


@pytest.mark.parametrize("kind", ["dinov2", "evil"])
def test_code_in_a_model_folder_is_not_run(call, corpus, model, trace, tmp_path, kind):
    named = {name: f"evil.{name}" for name in ("AutoConfig", "AutoModel", "AutoImageProcessor")}
    change(model / "config.json", model_type=kind, auto_map=named, num_register_tokens=2)
    change(model / "preprocessor_config.json", auto_map=named)
    (model / "evil.py").write_text(f"open({str(trace)!r}, 'w')")
    code, _, told = call("knn", "--ckpt", model, "--data", corpus, "--out", tmp_path / "out", *FAST)
    assert code == 2, told


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "preprocessor_config.json"])
def test_a_pipe_in_the_place_of_a_piece_is_not_waited_for(refuse, model, missing):
    (model / missing).unlink()
    os.mkfifo(model / missing)
    assert str(model) in refuse(ckpt=model)
