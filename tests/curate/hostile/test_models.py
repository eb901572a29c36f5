"""Models of strangers: no code of theirs runs, no other file is read, and nobody is asked whether that may be."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.hostile_files import Malice

from lvd_curate.errors import InputError
from lvd_curate.models.encoders import load_encoder


def add_code(folder: Path, file: str, entries: dict[str, str]) -> None:
    """Make a model's folder ask for code of its own."""
    (folder / "own.py").write_text("import os\nos.mkdir('ran')\n")
    said = json.loads((folder / file).read_text())
    names = {kind: name for kind, name in entries.items() if kind.startswith("Auto")}
    said |= {key: value for key, value in entries.items() if key not in names} | {"auto_map": names}
    (folder / file).write_text(json.dumps(said))


def pickle_weights(folder: Path) -> None:
    import torch

    (folder / "model.safetensors").unlink()
    torch.save({"embeddings.cls_token": Malice(Path("ran"))}, folder / "pytorch_model.bin")


def climb(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"embeddings.cls_token": "../../../../../../etc/passwd"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "its own model": (
        lambda f: add_code(f, "config.json", {"model_type": "own", "AutoConfig": "own.C", "AutoModel": "own.M"}),
        "cannot be read",
    ),
    "its own processor": (
        lambda f: add_code(f, "preprocessor_config.json", {"image_processor_type": "P", "AutoImageProcessor": "own.P"}),
        "cannot be read",
    ),
    "pickled weights": (pickle_weights, "its weights are a pickle of more than tensors"),
    "weights that are a pickle": (
        lambda f: (
            (f / "model.safetensors").rename(f / "gone")
            and (f / "pytorch_model.bin").write_bytes(pickle.dumps(Malice(Path("ran"))))
        ),
        "its weights are a pickle of more than tensors",
    ),
    "a header of exabytes": (
        lambda f: (f / "model.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}"),
        "cannot be read",
    ),
    "weights elsewhere": (climb, "cannot be read"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_models_folder_runs_no_code_and_asks_nobody(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("builtins.input", lambda *question: asked.append(question) or "n")
    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(encoder, tmp_path / "model"))
    spoil, message = SPOILED[kind]
    spoil(folder)
    with pytest.raises(InputError, match=message):
        load_encoder(str(folder), "cpu")
    assert asked == [], "nobody was asked whether code may run"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["../outside.bin", "inside.bin", "/etc/passwd"])
def test_an_onnx_file_reads_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    from onnx import TensorProto, helper

    (tmp_path / "in").mkdir()
    for name in ("outside.bin", "in/inside.bin"):
        (tmp_path / name).write_bytes(bytes(48))
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=place)
    nodes = [
        helper.make_node("ReduceMean", ["p"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["f"]),
    ]
    ends = [helper.make_tensor_value_info(*end) for end in (("p", 1, ["B", 3, 32, 32]), ("f", 1, ["B", 4]))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    (tmp_path / "in/model.onnx").write_bytes(model.SerializeToString())
    monkeypatch.chdir(tmp_path / "in")
    with pytest.raises(InputError, match="cannot be read as an ONNX model"):
        load_encoder(f"onnx:{tmp_path / 'in/model.onnx'}", "cpu")
