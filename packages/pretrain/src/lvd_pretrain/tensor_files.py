"""Files of weights from elsewhere: nothing is unpickled, and no tensor is larger than the file that it comes from."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lvd_pretrain.errors import InputError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict that a .safetensors or a .pth file holds, or holds under `teacher`; on the CPU.

    Raises:
        InputError: damaged, or more than finite numbers in it, or one that unfolds beyond the file's own size.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _read_pth(path)
    except InputError:
        raise
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    except Exception as error:  # damaged, or objects inside that would have to be unpickled: PyTorch advises to do so
        kind = type(error).__name__
        raise InputError(
            f"{path} holds more than tensors or is damaged ({kind}); nothing is unpickled, since that would run "
            "whatever code it carries: save its state dict alone"
        ) from error
    if isinstance(content, dict):
        content = content.get("teacher", content)
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise InputError(f"{path} is no state dict of tensors")
    for name, tensor in content.items():
        if fault := _fault(tensor, path.stat().st_size):
            raise InputError(f"{path}: {name} {fault}: no weights to start from")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        InputError: damaged, or no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged (a {type(content).__name__}, no object)")
    return content


def _read_pth(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:  # PyTorch stores; what is compressed may unfold into terabytes
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise InputError(
                    f"{path} is compressed or TorchScript, neither of which a state dict is: save its state dict alone"
                )
    return torch.load(path, map_location="cpu", weights_only=True)


def _fault(tensor: Tensor, file_size: int) -> str:
    """Why a tensor cannot be a weight, in words."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or not tensor.is_floating_point():
        return f"is {tensor.dtype} on {tensor.device.type}, {tensor.layout}"
    if tensor.numel() * tensor.element_size() > file_size:  # repeated by strides of 0
        return f"of shape {tuple(tensor.shape)} is larger than the file"
    return "" if tensor.isfinite().all() else "holds numbers that are not finite"
