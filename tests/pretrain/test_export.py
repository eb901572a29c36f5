import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel

from lvd_pretrain.export import export_model
from lvd_pretrain.method import SelfDistillation
from lvd_pretrain.ranks import gather_weights

FACTS = {"dataset": "abc", "images": 24, "global_batch": 4}


@pytest.mark.parametrize(
    ("overrides", "kind"),
    [
        ([], "Dinov2Model"),
        (["model.registers=3"], "Dinov2WithRegistersModel"),
        (["model.registers=1", "model.ffn=swiglu"], "Dinov2WithRegistersModel"),
    ],
    ids=["plain", "registers", "swiglu"],
)
def test_transformers_gives_the_same_tokens(tiny, tmp_path, overrides, kind):
    config = tiny(*overrides)
    torch.manual_seed(0)
    method = SelfDistillation(config)
    for parameter in method.teacher.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    path = export_model(tmp_path, 7, gather_weights(method.teacher), config, FACTS)
    theirs, loading = AutoModel.from_pretrained(path, output_loading_info=True)
    assert type(theirs).__name__ == kind
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        hidden = theirs.eval()(images).last_hidden_state
        (ours,) = method.teacher["backbone"]([images])
    assert torch.allclose(hidden, torch.cat([ours.cls.unsqueeze(1), ours.registers, ours.patches], dim=1), atol=1e-4)


def test_folder_is_complete_and_the_link_follows(tiny, tmp_path):
    config = tiny()
    method = SelfDistillation(config)
    export_model(tmp_path, 3, gather_weights(method.teacher), config, FACTS)
    path = export_model(tmp_path, 6, gather_weights(method.teacher), config, FACTS)
    assert (tmp_path / "model").resolve() == path.resolve()
    assert sorted(file.name for file in path.iterdir()) == [
        "README.md",
        "config.json",
        "heads.safetensors",
        "model.safetensors",
        "preprocessor_config.json",
        "training.json",
    ]
    heads = load_file(path / "heads.safetensors")
    assert heads["ibot_head.last_layer.weight_v"].shape == (48, 16)
    training = json.loads((path / "training.json").read_text())
    assert training["step"] == 6
    assert training["config"] == config.to_dict()
    assert sorted(file.name for file in (tmp_path / "models").iterdir()) == ["step_00000003", "step_00000006"]


def test_processor_prepares_images_as_training_did(tiny, tmp_path):
    config = tiny()
    path = export_model(tmp_path, 1, gather_weights(SelfDistillation(config).teacher), config, FACTS)
    processor = AutoImageProcessor.from_pretrained(path)
    pixels = processor(torch.full((3, 50, 80), 128, dtype=torch.uint8), return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 32, 32)
    expected = (128 / 255 - torch.tensor(config.augment.mean)) / torch.tensor(config.augment.std)
    assert torch.allclose(pixels[0].mean((1, 2)), expected, atol=1e-3)
