import json

import pytest
import torch
from safetensors.torch import save_file

from lvd_evaluate.encoders import load_encoder
from lvd_evaluate.errors import InputError
from lvd_evaluate.pictures.attention_maps import attend

CPU = torch.device("cpu")
IMAGES = torch.rand(2, 3, 28, 42, generator=torch.Generator().manual_seed(0))


def _open(spec, image_size=None):
    return load_encoder(str(spec), image_size=image_size, seed=0, device=CPU)


@pytest.mark.parametrize("registers", [0, 2])
def test_it_is_what_transformers_itself_gives_when_it_shows_attention(make_model, tmp_path, registers):
    from transformers import AutoModel

    folder = make_model(tmp_path / "model", registers=registers)
    encoder = _open(folder)
    found = attend(encoder, IMAGES)
    library = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        weights = library((IMAGES - encoder._mean) / encoder._std, output_attentions=True).attentions[-1]
    assert found.shape == (2, 2, 2, 3)
    assert torch.allclose(found.flatten(2), weights[:, :, 0, 1 + registers :], atol=1e-5)
    assert (found.sum(dim=(2, 3)) < 1).all()


def test_timm_is_read_too(tmp_path):
    import timm

    torch.manual_seed(0)
    library = timm.create_model("test_vit", num_classes=0).eval()
    save_file(library.state_dict(), tmp_path / "weights.safetensors")
    encoder = _open(f"timm:test_vit/{tmp_path / 'weights.safetensors'}")
    images = torch.rand(1, 3, 32, 48)
    seen = []
    attention = library.blocks[-1].attn
    attention.fused_attn = False
    attention.attn_drop.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        library.forward_features((images - encoder._mean) / encoder._std)
    (weights,) = seen
    assert torch.allclose(attend(encoder, images).flatten(2), weights[:, :, 0, 1:], atol=1e-5)


def test_open_clip_is_read_too(tmp_path):
    import open_clip

    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 28, "layers": 2, "width": 24, "patch_size": 14, "head_width": 12},
        "text_cfg": {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "Attentive-28.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "Attentive-28.json")
    torch.manual_seed(0)
    visual = open_clip.create_model("Attentive-28").eval()
    save_file(visual.state_dict(), tmp_path / "weights.safetensors")
    encoder = _open(f"open_clip:Attentive-28/{tmp_path / 'weights.safetensors'}")
    images = torch.rand(2, 3, 28, 28)
    found = attend(encoder, images)
    block, inputs = visual.visual.transformer.resblocks[-1], []
    block.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.no_grad():
        visual.encode_image((images - encoder._mean) / encoder._std)
        tokens = block.ln_1(inputs[0])
        _, weights = block.attn(tokens, tokens, tokens, average_attn_weights=False)
    assert found.shape == (2, 2, 2, 2)
    assert torch.allclose(found.flatten(2), weights[:, :, 0, 1:], atol=1e-5)


def test_what_has_no_class_token_is_named():
    with pytest.raises(InputError, match="pixels: has no class token"):
        attend(_open("pixels"), torch.rand(1, 3, 32, 32))
