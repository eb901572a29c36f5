import logging

import pytest
import torch

from lvd_evaluate.encoders import find_device, find_model_folder, load_encoder
from lvd_evaluate.errors import InputError

CPU = torch.device("cpu")


def _load(spec, **changes):
    return load_encoder(str(spec), **({"image_size": None, "seed": 0, "device": CPU} | changes))


def test_a_run_a_model_and_a_checkpoint_name_the_same_weights(run_folder):
    newest = run_folder / "models" / "step_10"
    assert find_model_folder(run_folder).resolve() == newest
    assert find_model_folder(newest) == newest
    assert find_model_folder(run_folder / "checkpoints" / "step_10") == newest
    assert _load(run_folder).fingerprint == _load(newest).fingerprint
    assert _load(run_folder).fingerprint != _load(run_folder / "models" / "step_2").fingerprint
    assert (_load(run_folder).name, _load(newest).name) == ("tiny", "tiny step_10")


def test_without_a_link_the_newest_model_is_taken_by_number(run_folder, tmp_path):
    (tmp_path / "models").symlink_to(run_folder / "models")
    assert find_model_folder(tmp_path).name == "step_10"  # not step_2, which sorts last as text


@pytest.mark.parametrize("spec", ["nowhere", "untrained:nowhere", "pixels:big", "open_clip:ViT-B-32", "timm:nosuch"])
def test_what_cannot_be_had_is_named(spec):
    with pytest.raises(InputError, match=r"nowhere|pixels:big|open_clip:ViT-B-32|timm:nosuch") as caught:
        _load(spec)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        _load(tmp_path)


def test_the_audit_names_loader_size_and_statistics(run_folder, caplog):
    with caplog.at_level(logging.INFO):
        encoder = _load(run_folder)
    (line,) = caplog.messages
    for part in (
        "tiny",
        "transformers",
        "Dinov2WithRegistersModel",
        f"{encoder.num_parameters:,}",
        "short side 32",
        "28",
        "1 + 2 + 2x2 = 7 tokens",
        "5 layers",
        "tensors loaded, 0 ignored",
    ):
        assert part in line
    assert "mean 0.4 0.5 0.6, std 0.2 0.25 0.3" in line


def test_untrained_twins_share_everything_but_the_weights(run_folder):
    trained, twin, again, other = (
        _load(run_folder),
        _load(f"untrained:{run_folder}"),
        _load(f"untrained:{run_folder}"),
        _load(f"untrained:{run_folder}", seed=1),
    )
    assert twin.name == "untrained tiny"
    assert twin.fingerprint == again.fingerprint
    assert len({trained.fingerprint, twin.fingerprint, other.fingerprint}) == 3
    for attribute in ("num_parameters", "image_size", "resize_size", "mean", "std", "num_layers"):
        assert getattr(trained, attribute) == getattr(twin, attribute)


def test_drawing_weights_leaves_the_global_random_state_alone(run_folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    _load(f"untrained:{run_folder}")
    assert torch.equal(torch.rand(3), expected)


def test_a_device_that_is_not_there_is_named():
    assert find_device("cpu") == CPU
    with pytest.raises(InputError, match=r"features\.device=warp"):
        find_device("warp")
