import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lvd_curate.errors import InputError
from lvd_curate.models import encoders
from lvd_curate.models.encoders import load_encoder

Picture = Callable[..., Image.Image]


def test_a_model_folder_gives_its_normalised_cls_token(encoder: Path, picture: Picture) -> None:
    from transformers import AutoImageProcessor, AutoModel

    images = [picture(seed) for seed in range(3)]
    vectors = load_encoder(str(encoder), "cpu").embed(images, "fp32")
    assert (vectors.shape, vectors.dtype) == ((3, 32), np.float16)
    pixels = AutoImageProcessor.from_pretrained(encoder)(images=images, return_tensors="pt")
    with torch.inference_mode():
        cls = AutoModel.from_pretrained(encoder).eval()(**pixels).last_hidden_state[:, 0]
    np.testing.assert_allclose(vectors, torch.nn.functional.normalize(cls).numpy(), atol=2e-3)
    bf16 = load_encoder(str(encoder), "cpu").embed(images, "bf16")
    assert (vectors.astype(np.float32) * bf16.astype(np.float32)).sum(axis=1).min() > 0.99


def test_a_run_folder_and_the_prefix_name_the_same_model(encoder: Path) -> None:
    prints = {
        load_encoder(spec, "cpu").fingerprint()
        for spec in (str(encoder), str(encoder.parent), f"transformers:{encoder}")
    }
    assert len(prints) == 1


def test_the_fingerprint_follows_weights_and_preprocessing(encoder: Path, tmp_path: Path) -> None:
    import shutil

    first = load_encoder(str(encoder), "cpu").fingerprint()
    copy = shutil.copytree(encoder, tmp_path / "copy")
    assert load_encoder(str(copy), "cpu").fingerprint() == first
    other = shutil.copytree(encoder, tmp_path / "other")
    recipe = json.loads((other / "preprocessor_config.json").read_text()) | {"image_mean": [0.1, 0.2, 0.3]}
    (other / "preprocessor_config.json").write_text(json.dumps(recipe))
    assert load_encoder(str(other), "cpu").fingerprint() != first


def test_torchscript_files_are_squashed_and_flattened(tmp_path: Path, picture: Picture) -> None:
    class Mean(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean(dim=3, keepdim=True)[:, :, :2]

    torch.jit.script(Mean()).save(tmp_path / "mean.pt")
    vectors = load_encoder(f"torchscript:{tmp_path / 'mean.pt'}", "cpu").embed([picture(1), picture(2)], "fp32")
    assert vectors.shape == (2, 6)
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float32), axis=1), 1, atol=2e-3)


def export_mean(file: Path, *, kind: int, shape: list[object], axes: list[int]) -> Path:
    """Write an ONNX model that averages its images over some axes, in float."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    make, float_ = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        make.make_node("Cast", ["image"], ["pixels"], to=float_),
        make.make_node("ReduceMean", ["pixels", "axes"], ["vector"], keepdims=0),
    ]
    graph = make.make_graph(
        nodes,
        "mean",
        [make.make_tensor_value_info("image", kind, shape)],
        [make.make_tensor_value_info("vector", float_, None)],
        [make.make_tensor("axes", onnx.TensorProto.INT64, [len(axes)], axes)],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, file)
    return file


def test_onnx_models_of_bytes_get_bytes_channels_last(tmp_path: Path, picture: Picture) -> None:
    file = export_mean(tmp_path / "bytes.onnx", kind=2, shape=["batch", 24, 32, 3], axes=[1, 2])
    model = load_encoder(f"onnx:{file}", "cpu")
    images = [picture(1), picture(2)]
    vectors = model.embed(images, "fp32").astype(float)
    means = np.array([np.asarray(image.resize((32, 24)), dtype=float).mean(axis=(0, 1)) for image in images])
    np.testing.assert_allclose(vectors, means / np.linalg.norm(means, axis=1, keepdims=True), atol=0.01)


def test_onnx_models_of_floats_get_them_normalised_and_one_by_one_where_they_ask(
    tmp_path: Path, picture: Picture
) -> None:
    images = [picture(seed) for seed in range(3)]
    free = load_encoder(
        f"onnx:{export_mean(tmp_path / 'a.onnx', kind=1, shape=['n', 3, 'h', 'w'], axes=[2, 3])}", "cpu"
    )
    single = load_encoder(
        f"onnx:{export_mean(tmp_path / 'b.onnx', kind=1, shape=[1, 3, 320, 320], axes=[2, 3])}", "cpu"
    )
    np.testing.assert_array_equal(free.embed(images, "fp32"), single.embed(images, "fp32"))
    grey = np.array([[0.5, 0.5, 0.5]]) - [[0.485, 0.456, 0.406]]
    grey /= [[0.229, 0.224, 0.225]]
    vector = free.embed([Image.new("RGB", (64, 64), (128, 128, 128))], "fp32")
    np.testing.assert_allclose(vector, grey / np.linalg.norm(grey), atol=0.02)
    assert free.fingerprint() != single.fingerprint()
    load_encoder.cache_clear()
    assert load_encoder(f"onnx:{tmp_path / 'a.onnx'}", "cpu").fingerprint() == free.fingerprint()


def test_onnx_models_that_do_not_take_images_are_refused(tmp_path: Path) -> None:
    file = export_mean(tmp_path / "text.onnx", kind=1, shape=["n", 7], axes=[1])
    with pytest.raises(InputError, match=r"takes image tensor\(float\) \['n', 7\]; it must take one batch of RGB"):
        load_encoder(f"onnx:{file}", "cpu")
    (tmp_path / "evil.onnx").write_bytes(b"not a model")
    with pytest.raises(InputError, match="cannot be read as an ONNX model"):
        load_encoder(f"onnx:{tmp_path / 'evil.onnx'}", "cpu")


@pytest.mark.parametrize("spec", ["timm:vit_tiny", "open_clip:ViT-B-32/laion2b"])
def test_a_missing_extra_is_named(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, spec.partition(":")[0], None)
    with pytest.raises(InputError, match=r"needs the extra lvd-curate\[encoders\]"):
        load_encoder(spec, "cpu")


def test_timm_models_open_from_a_file(tmp_path: Path, picture: Picture) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_vit", num_classes=0)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    loaded = load_encoder(f"timm:test_vit/{tmp_path / 'weights.pth'}", "cpu")
    assert loaded.embed([picture(1)], "fp32").shape == (1, model.num_features)
    assert torch.equal(loaded.model.state_dict()["cls_token"], model.state_dict()["cls_token"])


def test_open_clip_models_open_from_a_file(tmp_path: Path, picture: Picture) -> None:
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    recipe = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "tiny-clip.json").write_text(json.dumps(recipe))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    torch.save(open_clip.create_model("tiny-clip").state_dict(), tmp_path / "weights.pt")
    assert load_encoder(f"open_clip:tiny-clip/{tmp_path / 'weights.pt'}", "cpu").embed([picture(1)], "fp32").shape == (
        1,
        24,
    )


@pytest.mark.parametrize(
    "spec",
    [
        "no/such/folder",
        "open_clip:ViT-B-32",
        "open_clip:ViT-Z-99/nothing",
        "timm:no_such_model",
        "timm:test_vit/no-such-file.pth",
        "torchscript:no-such-file.pt",
        "onnx:no-such-file.onnx",
        "transformers:./no/such/folder",
    ],
)
def test_an_encoder_that_cannot_be_had_names_itself(spec: str) -> None:
    with pytest.raises(InputError, match=spec.split("/")[0].split(":")[-1].strip(".") or spec):
        load_encoder(spec, "cpu")


def test_a_folder_without_a_model_and_a_hostile_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json.*torchscript:FILE"):
        load_encoder(str(tmp_path), "cpu")
    (tmp_path / "evil.pt").write_bytes(b"not a model")
    with pytest.raises(InputError, match="cannot be read"):
        load_encoder(f"torchscript:{tmp_path / 'evil.pt'}", "cpu")


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    from safetensors.torch import load_file, save_file

    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


def test_missing_and_mismatched_weights_are_refused_by_name(encoder: Path, tmp_path: Path) -> None:
    import shutil

    missing = shutil.copytree(encoder, tmp_path / "missing")
    rewrite_weights(missing, lambda weights: {k: v for k, v in weights.items() if k != "layernorm.weight"})
    with pytest.raises(InputError, match=r"missing: its weights lack layernorm\.weight"):
        load_encoder(str(missing), "cpu")
    mismatched = shutil.copytree(encoder, tmp_path / "mismatched")
    rewrite_weights(mismatched, lambda weights: weights | {"layernorm.weight": torch.ones(7)})
    with pytest.raises(InputError, match=r"layernorm\.weight"):
        load_encoder(str(mismatched), "cpu")


def test_a_missing_head_that_the_feature_does_not_use_changes_nothing(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    ViTModel(ViTConfig(**shape), add_pooling_layer=False).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    prints = set()
    for _ in range(2):
        load_encoder.cache_clear()
        prints.add(load_encoder(str(tmp_path), "cpu").fingerprint())
    assert len(prints) == 1


def test_the_fingerprint_follows_what_weights_do_not_tell(encoder: Path, tmp_path: Path) -> None:
    import shutil

    other = shutil.copytree(encoder, tmp_path / "other")
    shape = json.loads((other / "config.json").read_text()) | {"num_attention_heads": 4}
    (other / "config.json").write_text(json.dumps(shape))
    assert load_encoder(str(other), "cpu").fingerprint() != load_encoder(str(encoder), "cpu").fingerprint()


def test_workers_share_out_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert encoders.choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert encoders.choose_device("auto") == torch.device("cuda", 0)
    names = [f"SpawnProcess-{number}" for number in range(1, 7)]
    chosen = []
    for name in names:
        monkeypatch.setattr(encoders.multiprocessing, "current_process", lambda name=name: SimpleNamespace(name=name))
        chosen.append(encoders.choose_device("auto").index)
    assert sorted(chosen) == [0, 0, 1, 1, 2, 2]
