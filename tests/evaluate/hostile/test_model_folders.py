"""Model folders that others made: no code in them is run, nothing is allocated because a config says so."""

import json
import os
from pathlib import Path

import pytest
import torch
from tests.hostile_files import Malice, short


def test_a_pickle_in_a_model_folder_is_not_run(refuse, trace, model):
    (model / "model.safetensors").unlink()
    torch.save({"x": Malice(trace)}, model / "pytorch_model.bin")
    assert "cannot be loaded" in refuse(ckpt=model)


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
def test_code_in_a_model_folder_is_not_run(knn, model, trace, kind):
    named = {name: f"evil.{name}" for name in ("AutoConfig", "AutoModel", "AutoImageProcessor")}
    change(model / "config.json", model_type=kind, auto_map=named, num_register_tokens=2)
    change(model / "preprocessor_config.json", auto_map=named)
    (model / "evil.py").write_text(f"open({str(trace)!r}, 'w')")
    code, _, told = knn(ckpt=model)
    assert code == 2, told


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "preprocessor_config.json"])
def test_a_pipe_in_the_place_of_a_piece_is_not_waited_for(refuse, model, missing):
    (model / missing).unlink()
    os.mkfifo(model / missing)
    assert str(model) in refuse(ckpt=model)
