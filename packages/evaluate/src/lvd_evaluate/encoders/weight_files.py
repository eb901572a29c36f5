"""Files of weights and configs from elsewhere: nothing is unpickled or built larger than what lies on the disk."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lvd_evaluate.encoders.frozen import loading
from lvd_evaluate.errors import InputError

SUFFIXES = (".pth", ".pt", ".safetensors")
MAX_LAYERS = 1_000  # of a network; DINOv3's largest has 40
MAX_NUMBER = 2**20  # any other number of a config
MAX_DRAWN = 10**10  # parameters of a network whose folder holds no weights
PARAMETERS_PER_BYTE = 8  # more than the tightest quantisation stores


def read_tensors(spec: str, path: Path) -> dict[str, Tensor]:
    """The state dict that a file holds, or holds under `teacher`; floating point, on the CPU.

    Raises:
        InputError: no such file, damaged, more than tensors in it, or one that unfolds beyond the file's own size.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{spec}: a file of weights ends with {', '.join(SUFFIXES)}")
    require_stored(spec, path)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        with loading(spec):
            content: Any = load_file(path)
    else:
        content = _unpickle_nothing(spec, path)
    if isinstance(content, dict) and isinstance(content.get("teacher"), dict):
        content = content["teacher"]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise InputError(f"{spec}: holds no state dict of tensors, nor one under 'teacher'")
    for name, tensor in content.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or not tensor.is_floating_point():
            raise InputError(f"{spec}: {name} is {tensor.dtype}, {tensor.layout}: no weight of a network")
        if tensor.numel() * tensor.element_size() > path.stat().st_size:  # repeated by strides of 0
            raise InputError(f"{spec}: {name} of shape {tuple(tensor.shape)} is larger than the file")
    return content


def _unpickle_nothing(spec: str, path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own advice, to unpickle it all the same, must not be passed on
        raise InputError(
            f"{spec}: is damaged or holds more than tensors ({type(error).__name__}); it is not unpickled, because "
            "that would run whatever code it carries: save its state dict alone"
        ) from error


def require_stored(spec: str, path: Path) -> None:
    """Refuse what is no file, and archives that unfold: PyTorch stores its tensors as they are.

    Raises:
        InputError: no such file, or a compressed one.
    """
    if not path.is_file():
        raise InputError(f"{spec}: no such file {path}")
    if path.suffix in SUFFIXES and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise InputError(
                    f"{spec}: is compressed or TorchScript, neither of which a state dict is: save its state dict alone"
                )


def read_object(spec: str, path: Path) -> dict[str, Any]:
    """The object that a JSON file of a model holds.

    Raises:
        InputError: damaged, or no object.
    """
    with loading(spec):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise InputError(f"{spec}: {path.name} holds a {type(content).__name__}, not an object of settings")
    return content


def require_sane_numbers(spec: str, config: dict[str, Any]) -> None:
    """Refuse a config whose numbers alone would fill the memory, before a library takes them up.

    Raises:
        InputError: names the number.
    """
    for name, value in config.items():
        limit = MAX_LAYERS if "layers" in name else MAX_NUMBER
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not -limit <= number <= limit:
                raise InputError(f"{spec}: config.json says {name}={number}; at most {limit:,} is sensible")


def require_backed(spec: str, folder: Path, blank: nn.Module) -> None:
    """Refuse a network far larger than the weights beside its config.

    Args:
        spec: for the message.
        folder: where config and weights lie.
        blank: the network, on the device meta.

    Raises:
        InputError: it is.
    """
    wanted = sum(parameter.numel() for parameter in blank.parameters())
    files = [file for suffix in ("*.safetensors", "*.bin") for file in folder.glob(suffix) if file.is_file()]
    stored = sum(file.stat().st_size for file in files)
    if wanted > (PARAMETERS_PER_BYTE * stored if stored else MAX_DRAWN):
        raise InputError(
            f"{spec}: cannot be loaded: config.json describes {wanted:,} parameters, the weights are {stored:,} bytes"
        )
