import json

import pytest
import torch
from safetensors.torch import save_file

from lvd_evaluate.encoders import load_encoder, vision_towers
from lvd_evaluate.encoders.vision_towers import tokens_of_map
from lvd_evaluate.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 28, "layers": 5, "width": 24, "patch_size": 14, "head_width": 12},
        "text_cfg": {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1},
    }
    (folder / "Tiny-28.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "Tiny-28.json")
    torch.manual_seed(0)
    model = open_clip.create_model("Tiny-28").eval()
    save_file(model.state_dict(), folder / "weights.safetensors")
    return model, folder / "weights.safetensors"


def test_open_clip_tokens_come_before_the_projection(tiny_clip):
    model, weights = tiny_clip
    encoder = load_encoder(f"open_clip:Tiny-28/{weights}", image_size=None, seed=0, device=CPU)
    images = torch.rand(2, 3, 28, 28)
    layers = encoder.encode(images, 4)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (encoder.mean, encoder.std))
    with torch.no_grad():
        expected = model.encode_image((images - mean) / std)
    assert [tuple(tokens.patches.shape) for tokens in layers] == [(2, 2, 2, 24)] * 4
    assert torch.allclose(layers[-1].cls @ model.visual.proj.detach(), expected, atol=1e-5)
    assert encoder.feature.endswith("before the projection")
    assert encoder.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))


def test_open_clip_takes_another_size(tiny_clip):
    encoder = load_encoder(f"open_clip:Tiny-28/{tiny_clip[1]}", image_size=56, seed=0, device=CPU)
    assert encoder.encode(torch.rand(1, 3, 56, 56), 1)[0].patches.shape == (1, 4, 4, 24)


def test_open_clip_copies_itself_for_a_window_that_is_no_square(tiny_clip):
    encoder = load_encoder(f"open_clip:Tiny-28/{tiny_clip[1]}", image_size=None, seed=0, device=CPU)
    wide = encoder.at_size(28, 56)
    assert wide.encode(torch.rand(1, 3, 28, 56), [0, 4])[1].patches.shape == (1, 2, 4, 24)
    assert encoder.at_size(28, 28) is encoder
    again = load_encoder(f"open_clip:Tiny-28/{tiny_clip[1]}", image_size=56, seed=0, device=CPU)
    images = torch.rand(1, 3, 56, 56)
    assert torch.allclose(encoder.at_size(56, 56).encode(images, 1)[0].cls, again.encode(images, 1)[0].cls, atol=1e-6)


def test_open_clip_tokens_without_the_norm_are_those_before_it(tiny_clip):
    model, weights = tiny_clip
    encoder = load_encoder(f"open_clip:Tiny-28/{weights}", image_size=None, seed=0, device=CPU)
    images = torch.rand(1, 3, 28, 28)
    for bare, normed in zip(encoder.encode(images, [1, 4], normed=False), encoder.encode(images, [1, 4]), strict=True):
        assert not torch.allclose(bare.patches, normed.patches, atol=1e-3)
        assert torch.allclose(model.visual.ln_post(bare.patches), normed.patches, atol=1e-5)


def test_weights_of_another_architecture_are_refused(tiny_clip):
    with pytest.raises(InputError, match="cannot be loaded"):
        load_encoder(f"timm:vit_tiny_patch16_224/{tiny_clip[1]}", image_size=None, seed=0, device=CPU)


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"no such file nowhere\.safetensors"):
        load_encoder("timm:vit_tiny_patch16_224/nowhere.safetensors", image_size=None, seed=0, device=CPU)


def test_a_convolutional_network_is_read_through_its_last_map(tmp_path):
    import timm

    torch.manual_seed(0)
    save_file(timm.create_model("resnet18", num_classes=0).state_dict(), tmp_path / "weights.safetensors")
    encoder = load_encoder(f"timm:resnet18/{tmp_path / 'weights.safetensors'}", image_size=64, seed=0, device=CPU)
    (tokens,) = encoder.encode(torch.rand(2, 3, 64, 64), 4)
    assert tokens.patches.shape == (2, 2, 2, 512)
    assert torch.allclose(tokens.cls, tokens.patches.mean(dim=(1, 2)))
    assert encoder.feature == "mean of the last map (no class token), 512 values"


@pytest.fixture(scope="module")
def _tiny_beit():
    """A network of timm that holds one size at a time, made small and known to timm."""
    import timm
    from timm.models.beit import Beit

    def tiny_beit(pretrained=False, **settings):
        shape = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
        return timm.models.build_model_with_cfg(Beit, "beit_base_patch16_224", pretrained, **(shape | settings))

    tiny_beit.__module__ = "timm.models.beit"
    timm.models.register_model(tiny_beit)


@pytest.mark.usefixtures("_tiny_beit")
@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet", "tiny_beit"])
def test_timm_reads_images_that_are_no_squares(tmp_path, name):
    """By positions resampled as it goes, without any, or in a copy for each size, where timm can make one."""
    import timm
    from timm.models.beit import Beit

    torch.manual_seed(0)
    save_file(timm.create_model(name, num_classes=0).state_dict(), tmp_path / "weights.safetensors")
    spec = f"timm:{name}/{tmp_path / 'weights.safetensors'}"
    if name == "tiny_beit" and not hasattr(Beit, "set_input_size"):  # before timm 1.0.31
        with pytest.raises(InputError, match="timm fixes the size of this network to"):
            load_encoder(spec, image_size=64, seed=0, device=CPU)
        return
    encoder = load_encoder(spec, image_size=64, seed=0, device=CPU)
    images = torch.rand(1, 3, 64, 128)
    wide = encoder.at_size(64, 128)
    (tokens,) = wide.encode(images, 1)
    assert tokens.patches.shape[2] == 2 * tokens.patches.shape[1]
    assert wide.fingerprint == encoder.fingerprint
    assert (wide is encoder) == (name != "tiny_beit")


def test_timm_tokens_of_every_layer_pass_the_final_norm_and_registers_are_no_patches():
    import timm

    small = {"img_size": 28, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 0}
    module = timm.create_model("vit_small_patch14_reg4_dinov2", **small).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    images = torch.rand(2, 3, 28, 28)
    read = vision_towers.timm_reader(module, True)
    with torch.no_grad():
        expected = module.forward_features(images)  # [2, 1 + 4 + 4, 24]
        normed, bare = read(images, [1, 2], True), read(images, [1, 2], False)
        finished = module.norm(bare[0].cls)
    assert torch.allclose(normed[1].cls, expected[:, 0], atol=1e-5)
    assert torch.allclose(normed[1].registers, expected[:, 1:5], atol=1e-5)
    assert torch.allclose(normed[1].patches.flatten(1, 2), expected[:, 5:], atol=1e-5)
    assert torch.allclose(normed[0].cls, finished, atol=1e-5)
    assert not torch.allclose(normed[0].cls, normed[1].cls, atol=1e-2)
    assert not torch.allclose(normed[0].cls, bare[0].cls, atol=1e-2)


def test_prefix_tokens_are_class_token_and_registers():
    tokens = tokens_of_map(torch.zeros(1, 5, 2, 3), torch.arange(15.0).view(1, 3, 5))
    assert tokens.cls.tolist() == [[0, 1, 2, 3, 4]]
    assert tokens.registers.shape == (1, 2, 5)
    assert tokens.patches.shape == (1, 2, 3, 5)


def test_a_tower_without_a_class_token_is_read_through_its_own_attention_pool():
    import timm

    small = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2}
    module = timm.create_model("vit_base_patch16_siglip_224", num_classes=0, **small).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        (tokens,) = vision_towers.timm_reader(module, True)(images, [1], True)
        torch.testing.assert_close(tokens.cls, module(images))
    assert tokens.patches.shape == (2, 2, 2, 32)
