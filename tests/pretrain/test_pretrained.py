import json
import pickle
import sys

import pytest
import torch
from safetensors.torch import save_file

from lvd_pretrain.config import ModelConfig
from lvd_pretrain.errors import InputError
from lvd_pretrain.export import export_model
from lvd_pretrain.layouts import to_hugging_face, to_timm
from lvd_pretrain.method import SelfDistillation
from lvd_pretrain.pretrained import load_backbone, load_modules, open_pretrained
from lvd_pretrain.ranks import gather_weights
from lvd_pretrain.vit import VisionTransformer, resize_position_embedding

FACTS = {"dataset": "abc", "images": 24, "global_batch": 4}


@pytest.fixture
def method(tiny) -> SelfDistillation:
    torch.manual_seed(0)
    method = SelfDistillation(tiny("model.registers=2"))
    for parameter in method.teacher.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return method


def fresh(config) -> torch.nn.ModuleDict:
    torch.manual_seed(1)
    return SelfDistillation(config).student


def equal(one, two) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("form", ["run", "model", "pth", "teacher_checkpoint", "safetensors", "transformers"])
def test_every_form_gives_back_the_same_weights(method, tmp_path, form):
    config, official = method.config, method.teacher["backbone"].state_dict()
    model = export_model(tmp_path, 3, gather_weights(method.teacher), config, FACTS)
    if form == "run":
        source = tmp_path
    elif form == "model":
        source = model
    elif form == "transformers":
        from transformers import AutoModel

        source = tmp_path / "theirs"
        AutoModel.from_pretrained(model).save_pretrained(source)
    elif form == "safetensors":
        source = tmp_path / "official.safetensors"
        save_file(official, source)
    else:
        source = tmp_path / f"{form}.pth"
        chunked = {f"backbone.{name.replace('blocks.', 'blocks.0.')}": value for name, value in official.items()}
        heads = {name: value for name, value in method.teacher.state_dict().items() if "head" in name}
        torch.save({"teacher": chunked | heads} if form == "teacher_checkpoint" else official, source)
    weights = open_pretrained(str(source))
    student = fresh(config)
    if form in ("pth", "teacher_checkpoint", "safetensors"):  # 64 per head is all that such a file leaves to assume
        assert weights.shape.heads == 1
        weights = type(weights)(**{**vars(weights), "shape": config.model})
    load_modules(student, weights, heads=True)
    assert equal(student["backbone"].state_dict(), official)
    kept = form in ("run", "model", "teacher_checkpoint")
    assert equal(student["dino_head"].state_dict(), method.teacher["dino_head"].state_dict()) is kept
    assert equal(student["ibot_head"].state_dict(), method.teacher["ibot_head"].state_dict()) is kept


def test_timm_file_of_a_released_shape(tmp_path):
    shape = ModelConfig(arch="vit_small", patch_size=14, registers=4)
    torch.manual_seed(0)
    ours, back = VisionTransformer(shape, 112), VisionTransformer(shape, 112)
    torch.nn.init.normal_(ours.pos_embed)
    save_file(to_timm(ours.state_dict()), tmp_path / "timm.safetensors")
    weights = open_pretrained(f"timm:vit_small_patch14_reg4_dinov2/{tmp_path / 'timm.safetensors'}")
    load_backbone(back, weights)
    assert weights.shape.dims == shape.dims
    assert torch.equal(back.register_tokens, ours.register_tokens)
    assert torch.equal(back.cls_token + back.pos_embed[:, :1], ours.cls_token + ours.pos_embed[:, :1])


@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_positions_are_resized_at_load_as_they_would_be_at_run_time(method, tiny, tmp_path, offset):
    export_model(tmp_path, 3, gather_weights(method.teacher), method.config, FACTS)
    config = tiny("model.registers=2", "crops.global_size=64", f"model.pos_embed_offset={offset}")
    backbone = VisionTransformer(config.model, 64).eval()
    load_backbone(backbone, open_pretrained(str(tmp_path)))
    before = method.teacher["backbone"].pos_embed
    assert torch.equal(backbone.pos_embed, resize_position_embedding(before, (8, 8), offset, True))
    small = VisionTransformer(config.model, 32).eval()
    load_backbone(small, open_pretrained(str(tmp_path)))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        (one,), (two,) = backbone([images]), small([images])
    assert torch.allclose(one.patches, two.patches, atol=1e-5)


@pytest.mark.parametrize(
    ("word", "knob"),
    [
        ("model.patch_size=16", "model.patch_size=8"),
        ("model.registers=0", "model.registers=2"),
        ("model.ffn=swiglu", "model.ffn=mlp"),
        ("model.width=48", "model.width=32"),
        ("model.depth=3", "model.depth=2"),
        ("model.heads=4", "model.heads=2"),
        ("model.mlp_ratio=3", "model.mlp_ratio"),
        ("dino_head.prototypes=32", "dino_head"),
    ],
)
def test_another_architecture_is_refused_by_the_knob_that_would_fit(method, tiny, tmp_path, word, knob):
    export_model(tmp_path, 3, gather_weights(method.teacher), method.config, FACTS)
    with pytest.raises(InputError, match=knob):
        load_modules(fresh(tiny("model.registers=2", word)), open_pretrained(str(tmp_path)), heads=True)


def test_tied_heads_are_told_from_missing_ones(method, tiny, tmp_path):
    del method.teacher["ibot_head"]
    export_model(tmp_path, 3, gather_weights(method.teacher), method.config, FACTS)
    weights = open_pretrained(str(tmp_path))
    with pytest.raises(InputError, match="ibot_separate_head"):
        load_modules(fresh(method.config), weights, heads=True)
    load_modules(fresh(method.config), weights, heads=False)
    load_modules(fresh(tiny("model.registers=2", "loss.ibot_separate_head=false")), weights, heads=True)


class Bomb:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_what_cannot_be_weights_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "bomb.pth").write_bytes(b"")
    torch.save({"teacher": Bomb()}, tmp_path / "bomb.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    save_file({"conv1.weight": torch.zeros(2)}, tmp_path / "resnet.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert/config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "empty").mkdir()
    names = ("bomb.pth", "plain.pth", "cut.safetensors", "resnet.safetensors", "list.pth", "bert", "empty", "no.pth")
    for source in (*(str(tmp_path / name) for name in names), "timm:resnet50", "nothing here"):
        with pytest.raises(InputError, match=source.rsplit("/", 1)[-1]):
            open_pretrained(source)
    assert capsys.readouterr().out == ""


def test_hugging_face_shards_and_classifier_are_read(method, tmp_path):
    path = export_model(tmp_path, 3, gather_weights(method.teacher), method.config, FACTS)
    state = to_hugging_face(method.teacher["backbone"].state_dict())
    prefixed = {f"dinov2_with_registers.{name}": value for name, value in state.items()}
    prefixed["classifier.weight"] = torch.zeros(2, 64)
    names = sorted(prefixed)
    folder = tmp_path / "sharded"
    folder.mkdir()
    (folder / "config.json").write_text((path / "config.json").read_text())
    for index, part in enumerate((names[::2], names[1::2])):
        save_file({name: prefixed[name] for name in part}, folder / f"model-{index}.safetensors")
    weights = open_pretrained(str(folder))
    assert equal(weights.backbone, method.teacher["backbone"].state_dict())
    assert weights.heads == {}


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"needs the extra lvd-pretrain\[timm\]"):
        open_pretrained("timm:vit_small_patch14_dinov2")
