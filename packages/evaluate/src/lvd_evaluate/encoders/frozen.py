"""The parts that loaders of every library share: normalising, freezing, fingerprinting, checking sizes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lvd_evaluate.contracts import Tokens
from lvd_evaluate.errors import InputError

RESIZE_RATIO = 256 / 224  # short side before the crop over the crop: the field's 0.875


class FrozenEncoder:
    """A network whose tokens can be read layer by layer; see contracts.Encoder for the attributes."""

    def __init__(
        self,
        module: nn.Module,
        read_tokens: Callable[[Tensor, int], list[Tokens]],
        *,
        spec: str,
        name: str,
        loader: str,
        feature: str,
        architecture: Mapping[str, Any],
        image_size: int,
        patch_size: int | None,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        num_layers: int,
        device: torch.device,
    ) -> None:
        if patch_size and image_size % patch_size:
            raise InputError(
                f"{spec}: image size {image_size} is no multiple of the patch size {patch_size}; "
                f"give data.image_size={max(round(image_size / patch_size), 1) * patch_size}"
            )
        self.spec, self.name, self.loader, self.feature = spec, name, loader, feature
        self.image_size, self.resize_size = image_size, round(image_size * RESIZE_RATIO)
        self.mean, self.std, self.num_layers = mean, std, num_layers
        self.num_parameters = sum(parameter.numel() for parameter in module.parameters())
        self.fingerprint = fingerprint(module, architecture)
        self.device = device
        self._module = module.to(device).eval().requires_grad_(False)
        self._read_tokens = read_tokens
        self._mean, self._std = (torch.tensor(value, device=device).view(3, 1, 1) for value in (mean, std))

    @torch.inference_mode()
    def encode(self, images: Tensor, num_layers: int) -> list[Tokens]:
        """Tokens of the last `num_layers` layers, deepest last, from uint8 or 0..1 float images [B, 3, S, S]."""
        images = images.to(self.device)
        if images.dtype == torch.uint8:
            images = images.float() / 255
        return self._read_tokens((images - self._mean) / self._std, min(num_layers, self.num_layers))


def fingerprint(module: nn.Module, architecture: Mapping[str, Any]) -> str:
    """Hash of the architecture's description and of every weight by name, type, shape and value."""
    digest = hashlib.sha256(json.dumps(architecture, sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def loading(spec: str) -> Iterator[None]:
    """Whatever a library says while it opens a model becomes one line that names the model."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # each library has its own family of exceptions for a model it cannot open
        reason = " ".join(str(error).split())
        if len(reason) > 300:
            reason = reason[:300] + " ..."
        raise InputError(f"{spec}: cannot be loaded ({type(error).__name__}: {reason})") from error
