import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from lvd_evaluate.encoders.transformer_models import FAMILIES, load_transformers
from lvd_evaluate.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture
def model(make_model, tmp_path):
    return make_model(tmp_path / "model")


@pytest.mark.parametrize("kind", FAMILIES)
def test_tokens_equal_the_librarys_own(tmp_path, kind):
    from transformers import AutoModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    shape = {"hidden_size": 24, "num_hidden_layers": 5, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    torch.manual_seed(0)
    reference = AutoModel.from_config(CONFIG_MAPPING[kind](**shape)).eval()
    reference.save_pretrained(tmp_path)
    processor = {"crop_size": 28, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    encoder = load_transformers("spec", str(tmp_path), image_size=None, device=CPU)
    images = torch.rand(2, 3, 28, 28)
    layers = encoder.encode(images, 4)
    with torch.no_grad():
        tokens = reference((images - 0.5) / 0.5).last_hidden_state
    registers = getattr(reference.config, "num_register_tokens", 0)
    assert len(layers) == 4
    assert torch.allclose(layers[-1].cls, tokens[:, 0], atol=1e-5)
    assert torch.allclose(layers[-1].registers, tokens[:, 1 : 1 + registers], atol=1e-5)
    assert torch.allclose(layers[-1].patches.flatten(1, 2), tokens[:, 1 + registers :], atol=1e-5)
    assert not torch.allclose(layers[-2].cls, layers[-1].cls, atol=1e-3)


def test_another_size_resizes_the_position_embeddings(model):
    encoder = load_transformers("spec", str(model), image_size=56, device=CPU)
    assert encoder.resize_size == 64
    assert encoder.encode(torch.rand(1, 3, 56, 56), 1)[0].patches.shape == (1, 4, 4, 24)


def test_missing_weights_are_refused(model):
    state = load_file(model / "model.safetensors")
    dropped = sorted(state)[-1]
    save_file({name: tensor for name, tensor in state.items() if name != dropped}, model / "model.safetensors")
    with pytest.raises(InputError, match=r"1 missing keys, the first is"):
        load_transformers("spec", str(model), image_size=None, device=CPU)


def test_surplus_weights_are_refused(model):
    state = load_file(model / "model.safetensors") | {"encoder.layer.9.norm1.weight": torch.ones(24)}
    save_file(state, model / "model.safetensors")
    with pytest.raises(InputError, match=r"1 unexpected keys"):
        load_transformers("spec", str(model), image_size=None, device=CPU)


def test_an_unreadable_checkpoint_is_one_line(model):
    (model / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        load_transformers("spec", str(model), image_size=None, device=CPU)
    assert "\n" not in str(caught.value)


def test_without_preprocessing_nothing_is_assumed(model):
    (model / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"holds no preprocessor_config\.json"):
        load_transformers("spec", str(model), image_size=None, device=CPU)


def test_an_unknown_architecture_points_elsewhere(model, tmp_path):
    shutil.copytree(model, tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="model type bert is not known here"):
        load_transformers("spec", str(tmp_path / "other"), image_size=None, device=CPU)
