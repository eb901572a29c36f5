"""Any frozen encoder under one contract: model folders, transformers, timm, open_clip, untrained twins, raw pixels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lvd_evaluate.contracts import Encoder, Tokens
from lvd_evaluate.errors import InputError

if TYPE_CHECKING:
    from lvd_evaluate.encoders.frozen import FrozenEncoder
    from lvd_evaluate.encoders.pixels import PixelEncoder

WAYS = (
    "a run or model folder, a DINOv2 .pth or .safetensors FILE, transformers:ID_OR_DIR, timm:NAME[/FILE], "
    "open_clip:NAME/TAG_OR_FILE, untrained:FOLDER_OR_FILE or pixels[:SIZE]"
)
OPENCLIP = {  # parameters of the image tower: SPEC; the paper's own baseline and its smaller sisters
    86_000_000: "open_clip:ViT-B-16/laion2b_s34b_b88k",
    304_000_000: "open_clip:ViT-L-14/laion2b_s32b_b82k",
    632_000_000: "open_clip:ViT-H-14/laion2b_s32b_b79k",
    1_845_000_000: "open_clip:ViT-bigG-14/laion2b_s39b_b160k",
}
logger = logging.getLogger(__name__)


def nearest_openclip(num_parameters: int) -> str:
    """SPEC of the OpenCLIP image tower whose size is nearest to that of the model under test."""
    return OPENCLIP[min(OPENCLIP, key=lambda size: abs(size - num_parameters))]


def load_encoder(
    spec: str, *, image_size: int | None, crop_ratio: float = 0.875, seed: int, device: torch.device
) -> Encoder:
    """Build the encoder that a SPEC names, frozen, in eval mode, on `device`, and print what was loaded.

    Args:
        spec: see WAYS.
        image_size: pixels after the centre crop; None takes what the checkpoint's own config says.
        crop_ratio: side of the centre crop over the short side before it.
        seed: of the weights of `untrained:` specs.
        device: where the forward pass runs.

    Raises:
        InputError: no such model, it cannot be reached, its weights do not fit, or its size does not fit its patches.
    """
    from lvd_evaluate.encoders.frozen import loading

    kind, _, rest = spec.partition(":")
    settings: dict[str, Any] = {"image_size": image_size, "device": device}
    if kind == "pixels":
        from lvd_evaluate.encoders.pixels import load_pixels

        encoder: FrozenEncoder | PixelEncoder = load_pixels(spec, rest, device)
    elif kind == "timm":
        from lvd_evaluate.encoders.vision_towers import load_timm

        encoder = load_timm(spec, rest, **settings)
    elif kind == "open_clip":
        from lvd_evaluate.encoders.vision_towers import load_open_clip

        encoder = load_open_clip(spec, rest, **settings)
    elif kind == "transformers":
        from lvd_evaluate.encoders.transformer_models import load_transformers

        encoder = load_transformers(spec, rest, **settings)
    elif kind == "untrained":
        encoder = _open_path(spec, rest, **settings, seed=seed)
    else:
        encoder = _open_path(spec, spec.removeprefix("dinov2:"), **settings)
    if kind != "pixels":  # whose image is the whole one
        encoder.resize_size = round(encoder.image_size / crop_ratio)
    with loading(spec):  # a first forward pass: what does not fit shows here, before any work
        logger.info("%s: %s", encoder.name, describe(encoder))
    return encoder


def _open_path(spec: str, path: str, **settings: Any) -> FrozenEncoder:
    """A file of weights in Meta's layout, or a folder that holds a model."""
    if spec.startswith("dinov2:") or Path(path).is_file():
        from lvd_evaluate.encoders.dinov2_files import load_dinov2_file

        return load_dinov2_file(spec, path, **settings)
    from lvd_evaluate.encoders.transformer_models import load_transformers

    return load_transformers(spec, str(find_model_folder(Path(path))), **settings)


def describe(encoder: FrozenEncoder | PixelEncoder) -> str:
    """One line a reader can check against a model card; its tokens are counted on a blank image."""
    blank = torch.zeros(1, 3, encoder.image_size, encoder.image_size)
    return (
        f"{encoder.loader}, {encoder.num_parameters:,} parameters, {encoder.weights}, {encoder.num_layers} layers, "
        f"{count_tokens(encoder.encode(blank, 1)[0])}, {preprocessing(encoder)}, "
        f"{encoder.feature}, weights {encoder.fingerprint[:12]}"
    )


def count_tokens(tokens: Tokens) -> str:
    """`1 + 4 + 16x16 = 261 tokens`: class token, registers, patches."""
    registers = tokens.registers.shape[1] if tokens.registers is not None else 0
    if tokens.patches is None:
        return "no patch tokens"
    height, width = tokens.patches.shape[1:3]
    has_cls = tokens.registers is not None  # else `cls` is made of the map
    total = has_cls + registers + height * width
    return f"{int(has_cls)} + {registers} + {height}x{width} = {total} tokens"


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
