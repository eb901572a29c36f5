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
        "image_size": 28,
        "patch_size": 14,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.1, 0.2, 0.4),
        "num_layers": 2,
        "device": torch.device("cpu"),
    }
    read = lambda pixels, num_layers: [Tokens(cls=pixels.mean(dim=(2, 3)))] * num_layers  # noqa: E731
    return FrozenEncoder(module or torch.nn.Linear(2, 2), read, **(settings | changes))


def test_uint8_and_unit_floats_are_normalised_alike():
    images = torch.randint(0, 256, (2, 3, 28, 28), dtype=torch.uint8)
    encoder = _encoder()
    (whole,) = encoder.encode(images, 1)
    (unit,) = encoder.encode(images.float() / 255, 1)
    expected = (images.double().mean(dim=(2, 3)) / 255 - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.1, 0.2, 0.4])
    assert torch.allclose(whole.cls, unit.cls)
    assert torch.allclose(whole.cls.double(), expected, atol=1e-4)


def test_no_more_layers_than_there_are():
    assert len(_encoder().encode(torch.zeros(1, 3, 28, 28), 4)) == 2


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
