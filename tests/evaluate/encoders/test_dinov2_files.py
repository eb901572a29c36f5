import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from lvd_evaluate.encoders import load_encoder
from lvd_evaluate.encoders.dinov2_files import resample_positions
from lvd_evaluate.errors import InputError

CPU = torch.device("cpu")
SIZE = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}


def _open(spec, **changes):
    return load_encoder(str(spec), **({"image_size": None, "seed": 0, "device": CPU} | changes))


def _official_layout(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Hugging Face's DINOv2 names -> Meta's."""
    names = {
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "embeddings.": "",
        "layernorm.": "norm.",
        "encoder.layer.": "blocks.",
        "attention.output.dense": "attn.proj",
        "mlp.weights_in": "mlp.w12",
        "mlp.weights_out": "mlp.w3",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
    }
    official: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        for old, new in names.items():
            name = name.replace(old, new)
        official[name] = tensor
    for name in [name for name in official if ".attention.attention.query." in name]:
        parts = [official.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        official[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    return official


def _assert_equal(first, second, size, layers, atol=1e-4):
    """The same tokens of every layer, after the norm and before it, from images on each encoder's own scale."""
    torch.manual_seed(0)
    pixels = torch.randn(2, 3, size, size)
    for normed in (True, False):
        pairs = [
            encoder.encode(pixels * encoder._std + encoder._mean, range(layers), normed=normed)
            for encoder in (first, second)
        ]
        for mine, theirs in zip(*pairs, strict=True):
            for part in ("cls", "registers", "patches"):
                assert torch.allclose(getattr(mine, part), getattr(theirs, part), atol=atol), (part, normed)


@pytest.fixture
def files(make_model, tmp_path):
    """The same weights as a folder of transformers and as a file in Meta's layout."""

    def write(registers=0, **shape):
        folder = make_model(tmp_path / "model", registers=registers, **(SIZE | shape))
        save_file(_official_layout(load_file(folder / "model.safetensors")), tmp_path / "official.safetensors")
        return folder, tmp_path / "official.safetensors"

    return write


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("gated", [False, True])
def test_metas_file_and_the_folder_of_transformers_give_the_same_tokens(files, registers, gated):
    folder, file = files(registers, use_swiglu_ffn=gated, mlp_ratio=4)
    ours, theirs = _open(file), _open(folder)
    assert ours.image_size == theirs.image_size == 56
    assert (ours.num_layers, ours.patch_size) == (3, 14)
    _assert_equal(ours, theirs, 56, layers=3)


@pytest.fixture(params=[0, 4])
def registers_and_timm_name(request):
    """timm's own DINOv2 with its way to read Meta's files, made small."""
    import timm
    from timm.models.vision_transformer import _create_vision_transformer

    name = f"vit_small_patch14_{'reg4_' if request.param else ''}dinov2"

    def tiny_dinov2(pretrained=False, **settings):
        shape = {"img_size": 56, "patch_size": 14, "embed_dim": 128, "depth": 3, "num_heads": 2, "init_values": 1e-5}
        if request.param:
            shape |= {"reg_tokens": request.param, "no_embed_class": True}
        return _create_vision_transformer(name, pretrained=pretrained, **shape, **settings)

    tiny_dinov2.__name__ = f"tiny_{name}"
    tiny_dinov2.__module__ = "timm.models.vision_transformer"
    timm.models.register_model(tiny_dinov2)
    return request.param, tiny_dinov2.__name__


def test_timm_gives_the_same_tokens_at_the_size_of_the_file_and_others_elsewhere(files, registers_and_timm_name):
    registers, timm_name = registers_and_timm_name
    file = files(registers)[1]
    ours, timms = _open(file), _open(f"timm:{timm_name}/{file}", image_size=56)
    _assert_equal(ours, timms, 56, layers=3)
    images = torch.rand(1, 3, 112, 112)
    tokens = [encoder.at_size(112, 112).encode(images, 1)[0].patches for encoder in (ours, timms)]
    resampled_alike = registers > 0  # then both antialias; without registers Meta does not, and adds 0.1
    assert torch.allclose(*tokens, atol=1e-4) == resampled_alike
    assert ours.loader != timms.loader


def test_positions_are_resampled_as_metas_code_does():
    table = torch.randn(1, 1 + 37 * 37, 8)
    assert resample_positions(table, 37, 37, with_registers=False) is table
    image = table[:, 1:].view(1, 37, 37, 8).permute(0, 3, 1, 2)
    plain = functional.interpolate(image, scale_factor=(16.1 / 37, 24.1 / 37), mode="bicubic", antialias=False)
    sized = functional.interpolate(image, size=(16, 24), mode="bicubic", antialias=True)
    for with_registers, expected in ((False, plain), (True, sized)):
        found = resample_positions(table, 16, 24, with_registers=with_registers)
        assert torch.equal(found[:, :1], table[:, :1])
        assert torch.allclose(found[:, 1:].view(1, 16, 24, 8).permute(0, 3, 1, 2), expected, atol=1e-6)


def test_windows_that_are_no_squares_are_read(files):
    (tokens,) = _open(files(2)[1]).at_size(28, 70).encode(torch.rand(1, 3, 28, 70), 1)
    assert tokens.patches.shape == (1, 2, 5, 128)
    assert tokens.registers.shape == (1, 2, 128)


def test_of_a_training_file_the_teachers_backbone_is_taken(files, tmp_path):
    state = load_file(files()[1])
    chunked = {f"backbone.{name}".replace("blocks.", "blocks.0."): tensor for name, tensor in state.items()}
    student = {name: tensor + 1 for name, tensor in chunked.items()}
    heads = {"dino_head.last_layer.weight_g": torch.ones(4)}
    torch.save({"teacher": chunked | heads, "student": student, "iteration": 3}, tmp_path / "nested.pth")
    flat = {f"module.teacher.{name}": tensor for name, tensor in chunked.items()}
    torch.save(flat | {f"module.student.{name}": tensor for name, tensor in student.items()}, tmp_path / "flat.pt")
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "parallel.pth")
    expected = _open(files()[1]).fingerprint
    for name in ("nested.pth", "flat.pt", "parallel.pth"):
        assert _open(tmp_path / name).fingerprint == expected, name
    assert _open(f"dinov2:{tmp_path / 'nested.pth'}").weights == "48 tensors loaded, 2 ignored"


def test_without_layer_scale_or_qkv_bias_the_network_has_none(files, tmp_path):
    state = {name: value for name, value in load_file(files()[1]).items() if "gamma" not in name}
    ones = {name: torch.ones(128) for name in load_file(files()[1]) if "gamma" in name}
    save_file(state, tmp_path / "bare.safetensors")
    save_file(state | ones, tmp_path / "ones.safetensors")
    _assert_equal(_open(tmp_path / "bare.safetensors"), _open(tmp_path / "ones.safetensors"), 56, layers=3)
    unbiased = {name: value for name, value in state.items() if "qkv.bias" not in name}
    zeros = {name: torch.zeros_like(value) for name, value in state.items() if "qkv.bias" in name}
    save_file(unbiased, tmp_path / "unbiased.safetensors")
    save_file(unbiased | zeros, tmp_path / "zeros.safetensors")
    _assert_equal(_open(tmp_path / "unbiased.safetensors"), _open(tmp_path / "zeros.safetensors"), 56, layers=3)


class Exploit:
    def __reduce__(self):
        return (open, ("exploited.txt", "w"))


def test_a_hostile_pickle_is_refused_in_one_line_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw.pth").write_bytes(pickle.dumps({"cls_token": Exploit()}, protocol=2))
    torch.save({"cls_token": torch.zeros(1, 1, 64), "extra": Exploit()}, tmp_path / "zip.pth")
    for name in ("raw.pth", "zip.pth"):
        with pytest.raises(InputError, match="not unpickled") as caught:
            _open(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "exploited.txt").exists()


def _without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_without("blocks.1.norm1.weight"), "1 missing keys, the first is blocks.1.norm1.weight"),
        (_without("pos_embed"), "no 'pos_embed' in it"),
        (lambda state: state | {"rope.periods": torch.ones(2)}, "1 unexpected keys, the first is rope.periods"),
        (lambda state: state | {"pos_embed": torch.ones(1, 18, 128)}, r"position embedding \(1, 18, 128\)"),
        (lambda state: state | {"pos_embed": torch.ones(1, 17, 100)}, "whole heads of 64"),
        (lambda state: state | {"blocks.7.norm1.weight": torch.ones(128)}, "4 blocks that are not numbered"),
        (lambda state: state | {"norm.weight": torch.ones(3)}, "size mismatch for norm.weight"),
        (lambda state: state | {"backbone.norm.weight": torch.ones(128)}, "holds norm.weight twice"),
        (lambda state: {"state": torch.ones(1)}, "no DINOv2 file in Meta's layout"),
    ],
)
def test_what_does_not_fit_exactly_is_refused(files, tmp_path, change, complaint):
    save_file(change(load_file(files()[1])), tmp_path / "changed.safetensors")
    with pytest.raises(InputError, match=complaint) as caught:
        _open(tmp_path / "changed.safetensors")
    assert "\n" not in str(caught.value)


def test_files_that_are_none_are_named(tmp_path):
    (tmp_path / "notes.txt").write_text("no weights")
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, complaint in (
        ("notes.txt", "ends with .pth"),
        ("cut.safetensors", "cannot be loaded"),
        ("list.pth", "no state dict of tensors"),
        ("none.pth", "no such file"),
    ):
        with pytest.raises(InputError, match=complaint):
            _open(f"dinov2:{tmp_path / name}")


def test_an_untrained_twin_of_a_file_has_its_shape_and_other_weights(files):
    file = files(4)[1]
    trained, twin = _open(file), _open(f"untrained:{file}")
    assert twin.name == "untrained official"
    assert twin.num_parameters == trained.num_parameters
    assert len({trained.fingerprint, twin.fingerprint, _open(f"untrained:{file}", seed=1).fingerprint}) == 3
    assert twin.encode(torch.rand(1, 3, 56, 56), 1)[0].patches.isfinite().all()
