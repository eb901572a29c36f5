import copy

import pytest
import torch
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer as TimmViT
from transformers import AutoModel

from lvd_pretrain.errors import InputError
from lvd_pretrain.export import export_model
from lvd_pretrain.layouts import from_hugging_face, from_official, from_timm, to_hugging_face, to_timm
from lvd_pretrain.method import SelfDistillation
from lvd_pretrain.ranks import gather_weights
from lvd_pretrain.vit import VisionTransformer

SMALL_WITH_REGISTERS = ("model.arch=vit_small", "model.registers=4", "model.width=null", "model.heads=null")
SHAPES = {
    "plain": (),
    "small_registers": (*SMALL_WITH_REGISTERS, "model.depth=2"),
    "giant_toy": ("model.ffn=swiglu", "model.width=48", "model.registers=4"),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def model(request, tiny) -> VisionTransformer:
    torch.manual_seed(0)
    config = tiny(*request.param)
    backbone = VisionTransformer(config.model, config.crops.global_size).eval()
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return backbone


def tokens(model: VisionTransformer, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        (ours,) = model([images])
    return torch.cat([ours.cls.unsqueeze(1), ours.registers, ours.patches], dim=1)


def equal(one, two) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_official_to_hugging_face_and_back_is_bit_for_bit(model):
    state = model.state_dict()
    assert equal(from_hugging_face(to_hugging_face(state)), state)


def test_what_transformers_saves_comes_back_bit_for_bit(tiny, tmp_path):
    from safetensors.torch import load_file

    config = tiny("model.registers=2", "model.ffn=swiglu")
    method = SelfDistillation(config)
    path = export_model(
        tmp_path, 1, gather_weights(method.teacher), config, {"dataset": "", "images": 1, "global_batch": 1}
    )
    AutoModel.from_pretrained(path).save_pretrained(tmp_path / "theirs")
    state = load_file(tmp_path / "theirs/model.safetensors")
    assert equal(from_hugging_face(state), method.teacher["backbone"].state_dict())


def test_timm_gives_the_same_tokens_and_its_weights_come_back(model):
    config = model.config
    width, depth, heads = config.dims
    gated = {"mlp_layer": SwiGLUPacked, "mlp_ratio": 2.66667 * 2, "act_layer": torch.nn.SiLU}
    theirs = TimmViT(
        img_size=32,
        patch_size=config.patch_size,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        init_values=1.0,
        num_classes=0,
        reg_tokens=config.registers,
        no_embed_class=bool(config.registers),
        **(gated if config.ffn == "swiglu" else {}),
    ).eval()
    theirs.load_state_dict(to_timm(model.state_dict()))
    images = torch.randn(2, 3, 32, 32)
    expected = tokens(model, images)
    with torch.no_grad():
        assert torch.allclose(theirs.forward_features(images), expected, atol=1e-5)
    back = copy.deepcopy(model)
    back.load_state_dict(from_timm(theirs.state_dict()))
    assert torch.equal(tokens(back, images), expected)
    assert equal(to_timm(back.state_dict()), to_timm(model.state_dict()))


def test_training_files_lose_their_prefixes_and_chunks():
    backbone, heads = from_official(
        {
            "backbone.cls_token": torch.zeros(1),
            "backbone.blocks.1.7.norm1.weight": torch.ones(1),
            "backbone.blocks.3.norm1.weight": torch.ones(1),
            "dino_head.last_layer.parametrizations.weight.original0": torch.ones(1),
            "ibot_head.mlp.0.weight": torch.ones(1),
        }
    )
    assert sorted(backbone) == ["blocks.3.norm1.weight", "blocks.7.norm1.weight", "cls_token"]
    assert sorted(heads) == ["dino_head.last_layer.weight_g", "ibot_head.mlp.0.weight"]


def test_foreign_weights_are_named():
    with pytest.raises(InputError, match="rope"):
        from_hugging_face({"rope.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="pos_embed"):
        from_timm({"conv1.weight": torch.zeros(1)})
