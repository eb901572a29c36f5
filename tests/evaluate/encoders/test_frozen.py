import pytest
import torch

from lvd_evaluate.contracts import Tokens
from lvd_evaluate.encoders.frozen import FrozenEncoder, fingerprint, loading
from lvd_evaluate.errors import InputError


def _encoder(module=None, **changes):
    settings = {
        "spec": "spec",
        "name": "name",
        "loader": "loader",
        "feature": "feature",
        "architecture": {},
        "weights": "no weights",
        "image_size": 28,
        "patch_size": 14,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.1, 0.2, 0.4),
        "num_layers": 2,
        "device": torch.device("cpu"),
    }
    read = lambda pixels, layers, normed: [Tokens(cls=pixels.mean(dim=(2, 3)) + layer) for layer in layers]  # noqa: E731
    return FrozenEncoder(module or torch.nn.Linear(2, 2), read, **(settings | changes))


def test_uint8_and_unit_floats_are_normalised_alike():
    images = torch.randint(0, 256, (2, 3, 28, 28), dtype=torch.uint8)
    encoder = _encoder()
    (whole,) = encoder.encode(images, [0])
    (unit,) = encoder.encode(images.float() / 255, [0])
    expected = (images.double().mean(dim=(2, 3)) / 255 - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.1, 0.2, 0.4])
    assert torch.allclose(whole.cls, unit.cls)
    assert torch.allclose(whole.cls.double(), expected, atol=1e-4)


def test_no_more_layers_than_there_are():
    assert len(_encoder().encode(torch.zeros(1, 3, 28, 28), 4)) == 2


def test_layers_are_counted_from_the_top_or_named_and_come_in_order_of_depth():
    encoder, images = _encoder(num_layers=5, mean=(0, 0, 0)), torch.zeros(1, 3, 28, 28)
    layers = lambda asked: [int(tokens.cls[0, 0]) for tokens in encoder.encode(images, asked)]  # noqa: E731
    assert layers(2) == [3, 4]
    assert layers([3, 0]) == [0, 3]
    with pytest.raises(InputError, match="no layer 5; there are 0 to 4"):
        layers([4, 5])


def test_heads_can_be_trained_on_tokens():
    head = torch.nn.Linear(3, 1)
    head(_encoder().encode(torch.rand(1, 3, 28, 28), 1)[0].cls).sum().backward()
    assert head.weight.grad.isfinite().all()


def test_sides_that_patches_do_not_tile_are_refused():
    with pytest.raises(InputError, match="28x30 pixels are no multiple of the patch size 14"):
        _encoder().encode(torch.zeros(1, 3, 28, 30), 1)
    with pytest.raises(InputError, match="14x15"):
        _encoder().at_size(14, 15)


def test_a_copy_for_another_size_is_built_once_and_shares_its_weights():
    built = []

    def resize(height, width):
        built.append((height, width))
        twin = torch.nn.Linear(2, 2)
        twin.load_state_dict({"weight": module.weight.detach().clone(), "bias": torch.ones(2) * 7})
        return twin, lambda pixels, layers, normed: [Tokens(cls=torch.full((1, 2), 9.0))]

    module = torch.nn.Linear(2, 2)
    encoder = _encoder(module, resize=resize)
    assert encoder.at_size(28, 28) is encoder
    twin = encoder.at_size(28, 56)
    assert twin is encoder.at_size(28, 56) is not encoder
    assert built == [(28, 56)]
    assert twin.encode(torch.zeros(1, 3, 28, 56), 1)[0].cls[0, 0] == 9
    assert twin.fingerprint == encoder.fingerprint
    assert twin._module.weight.data_ptr() == module.weight.data_ptr()
    assert twin._module.bias.tolist() == [7, 7]  # what differs stays its own
    assert not any(parameter.requires_grad for parameter in twin._module.parameters())
    assert _encoder().at_size(14, 70).at_size(28, 28).encode(torch.zeros(1, 3, 28, 28), 1)


def test_the_short_side_keeps_the_ratio_of_256_to_224():
    assert [_encoder(image_size=size).resize_size for size in (224, 28, 448)] == [256, 32, 512]


def test_a_size_that_patches_do_not_tile_is_refused_with_the_nearest_that_they_do():
    with pytest.raises(InputError, match=r"data\.image_size=42"):
        _encoder(image_size=40)


def test_the_network_is_frozen_and_in_eval_mode():
    module = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(2, 2))
    _encoder(module)
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_one_changed_weight_or_setting_changes_the_fingerprint():
    module = torch.nn.Linear(2, 2).bfloat16()
    first = fingerprint(module, {"heads": 2})
    assert fingerprint(module, {"heads": 2}) == first
    assert fingerprint(module, {"heads": 4}) != first
    module.weight.data[0, 0] += 1
    assert fingerprint(module, {"heads": 2}) != first


def test_a_librarys_complaint_becomes_one_line():
    with pytest.raises(InputError, match=r"^spec: cannot be loaded \(RuntimeError: two lines\)$"), loading("spec"):
        raise RuntimeError("two\n  lines")


def test_a_hub_that_breaks_off_is_told_from_a_model_that_cannot_be_loaded():
    wrapped = OSError("a library's words: reset")
    wrapped.__cause__ = ConnectionResetError(104, "Connection reset by peer")
    with pytest.raises(InputError, match=r"^hub/model: .* lost on the way .*reset.* again"), loading("hub/model"):
        raise wrapped
