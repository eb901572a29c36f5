"""Model folders that others made: read as data, and refused in one line where that cannot be."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file
from tests.hostile_files import short

from lvd_pretrain.pretrained import open_pretrained

HOSTILE_JSON = {
    "empty": b"",
    "a list": b"[1]",
    "deep": b"[" * 100_000,
    "UTF-16": '{"model_type": "dinov2"}'.encode("utf-16"),
    "another type": b'{"model_type": "llama\\u001b[31m", "auto_map": {"AutoModel": "evil--code.Model"}}',
    "no heads": b'{"model_type": "dinov2"}',
    "heads in words": b'{"model_type": "dinov2", "num_attention_heads": "many"}',
    "a billion heads": b'{"model_type": "dinov2", "num_attention_heads": 1000000000}',
    "type is a list": b'{"model_type": ["dinov2"], "num_attention_heads": 2}',
    "long number": b'{"model_type": "dinov2", "num_attention_heads": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_a_hostile_config_of_a_model_is_refused(refuse, model, name):
    (model / "config.json").write_bytes(HOSTILE_JSON[name])
    assert str(model) in refuse(f"init_from={model}")


@pytest.mark.parametrize(
    "text", ["[]", '{"config": []}', '{"config": {"model": {"pos_embed_offset": "x"}}}', "[" * 100_000], ids=short
)
def test_a_hostile_training_record_of_a_model_is_refused(refuse, model, text):
    (model / "training.json").write_text(text)
    assert str(model) in refuse(f"init_from={model}")


def test_code_in_a_model_folder_is_not_run(refuse, model, trace):
    settings = json.loads((model / "config.json").read_text())
    settings |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (model / "config.json").write_text(json.dumps(settings))
    (model / "evil.py").write_text(f"open({str(trace)!r}, 'w')")
    assert "model_type is evil" in refuse(f"init_from={model}")


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "heads.safetensors"])
def test_a_model_without_a_piece_or_with_a_pipe_in_its_place(refuse, model, missing):
    (model / missing).unlink()
    os.mkfifo(model / missing)  # opened, it would be waited for
    words = [f"distill.teacher={model}", "model.drop_path=0", "optim.steps=1", "optim.warmup=0", "trackers=[]"]
    if missing == "heads.safetensors":  # optional: its teacher gets fresh heads
        assert open_pretrained(str(model)).heads == {}
    else:
        assert str(model) in refuse(*words)


def test_heads_of_hostile_shapes_are_refused(refuse, model):
    save_file({"dino_head.last_layer.weight_v": torch.zeros(64, 16)}, model / "heads.safetensors")
    assert "dino_head" in refuse(f"distill.teacher={model}", "model.drop_path=0")
