"""Any frozen encoder under one contract: model folders, transformers, timm, open_clip, untrained twins, raw pixels."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from lvd_evaluate.contracts import Encoder
from lvd_evaluate.errors import InputError

WAYS = (
    "a run or model folder, transformers:ID_OR_DIR, timm:NAME[/FILE], open_clip:NAME/TAG_OR_FILE, "
    "untrained:FOLDER or pixels[:SIZE]"
)
logger = logging.getLogger(__name__)


def load_encoder(spec: str, *, image_size: int | None, seed: int, device: torch.device) -> Encoder:
    """Build the encoder that a SPEC names, frozen, in eval mode, on `device`, and print what was loaded.

    Args:
        spec: see WAYS.
        image_size: pixels after the centre crop; None takes what the checkpoint's own config says.
        seed: of the weights of `untrained:` specs.
        device: where the forward pass runs.

    Raises:
        InputError: no such model, it cannot be reached, its weights do not fit, or its size does not fit its patches.
    """
    from lvd_evaluate.encoders import pixels, transformer_models, vision_towers

    kind, _, rest = spec.partition(":")
    if kind == "pixels":
        encoder: Encoder = pixels.load_pixels(spec, rest, device)
    elif kind == "transformers":
        encoder = transformer_models.load_transformers(spec, rest, image_size=image_size, device=device)
    elif kind == "untrained":
        folder = str(find_model_folder(Path(rest)))
        encoder = transformer_models.load_transformers(spec, folder, image_size=image_size, device=device, seed=seed)
    elif kind == "timm":
        encoder = vision_towers.load_timm(spec, rest, image_size=image_size, device=device)
    elif kind == "open_clip":
        encoder = vision_towers.load_open_clip(spec, rest, image_size=image_size, device=device)
    else:
        folder = str(find_model_folder(Path(spec)))
        encoder = transformer_models.load_transformers(spec, folder, image_size=image_size, device=device)
    logger.info("%s: %s", encoder.name, describe(encoder))
    return encoder


def describe(encoder: Encoder) -> str:
    """One line a reader can check against a model card."""
    return (
        f"{encoder.loader}, {encoder.num_parameters:,} parameters, {preprocessing(encoder)}, "
        f"{encoder.feature}, weights {encoder.fingerprint[:12]}"
    )


def preprocessing(encoder: Encoder) -> str:
    """What happens to an image before the network sees it."""
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (encoder.mean, encoder.std))
    return f"short side {encoder.resize_size} bicubic, centre crop {encoder.image_size}, mean {mean}, std {std}"


def find_model_folder(path: Path) -> Path:
    """The Model v1 folder that a run folder, a checkpoint or a model folder stands for.

    Raises:
        InputError: no such folder, or none that holds a model.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; a model is {WAYS}")
    if (path / "config.json").is_file():
        return path
    if (path / "model").is_dir():
        return path / "model"
    exported = [twin for twin in (path.parent.parent / "models" / path.name,) if path.parent.name == "checkpoints"]
    exported += sorted(
        path.glob("models/step_*"), key=lambda folder: int("0" + "".join(filter(str.isdigit, folder.name)))
    )
    for folder in reversed(exported):
        if (folder / "config.json").is_file():
            return folder
    raise InputError(
        f"{path}: holds no config.json, no model/ and no models/step_*: give a run, checkpoint or model folder"
    )


def find_device(name: str) -> torch.device:
    """The torch device that features.device names.

    Raises:
        InputError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"features.device={name}: {str(error).splitlines()[0]}") from error
    return device
