"""The parts that loaders of every library share: normalising, freezing, fingerprinting, checking sizes."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lvd_evaluate.contracts import Tokens
from lvd_evaluate.errors import InputError
from lvd_evaluate.hub import is_lost_connection

RESIZE_RATIO = 256 / 224  # short side before the crop over the crop: the field's 0.875
ReadTokens = Callable[[Tensor, Sequence[int], bool], list[Tokens]]  # pixels, block numbers in order, normed


class FrozenEncoder:
    """A network whose tokens can be read layer by layer; see contracts.Encoder for the attributes."""

    def __init__(
        self,
        module: nn.Module,
        read_tokens: ReadTokens,
        *,
        spec: str,
        name: str,
        loader: str,
        feature: str,
        architecture: Mapping[str, Any],
        weights: str,
        image_size: int,
        patch_size: int | None,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        num_layers: int,
        device: torch.device,
        resize: Callable[[int, int], tuple[nn.Module, ReadTokens]] | None = None,
    ) -> None:
        """See contracts.Encoder; `weights` says how many tensors were loaded or drawn, for the audit.

        `resize(height, width)` gives module and reader for other sizes, where the library fixes the size at load.
        """
        if patch_size and image_size % patch_size:
            raise InputError(
                f"{spec}: image size {image_size} is no multiple of the patch size {patch_size}; "
                f"give data.image_size={max(round(image_size / patch_size), 1) * patch_size}"
            )
        self.spec, self.name, self.loader, self.feature, self.weights = spec, name, loader, feature, weights
        self.image_size, self.resize_size = image_size, round(image_size * RESIZE_RATIO)
        self.patch_size, self.mean, self.std, self.num_layers = patch_size, mean, std, num_layers
        self.num_parameters = sum(parameter.numel() for parameter in module.parameters())
        self.fingerprint = fingerprint(module, architecture)
        self.device = device
        self._module = module.to(device).eval().requires_grad_(False)
        self._read_tokens, self._resize = read_tokens, resize
        self._size = (image_size, image_size)
        self._resized: dict[tuple[int, int], FrozenEncoder] = {}  # never itself: a cycle would keep the weights
        self._mean, self._std = (torch.tensor(value, device=device).view(3, 1, 1) for value in (mean, std))

    @torch.no_grad()  # not inference_mode: heads are trained on what comes out
    def encode(self, images: Tensor, layers: int | Sequence[int], *, normed: bool = True) -> list[Tokens]:
        """Tokens of the last n layers, or of those numbered; see contracts.Encoder.

        Raises:
            InputError: a layer that the network does not have, or sides that its patches do not tile.
        """
        self._require_tiled(*images.shape[2:])
        images = images.to(self.device, non_blocking=True)
        if images.dtype == torch.uint8:
            images = images.float().div_(255)
        return self._read_tokens((images - self._mean).div_(self._std), self._number(layers), normed)

    def at_size(self, height: int, width: int) -> FrozenEncoder:
        """Itself where the network takes any size that its patches tile, else a copy, built once per size.

        Raises:
            InputError: sides that the patches do not tile, or the library cannot build the network at that size.
        """
        self._require_tiled(height, width)
        if self._resize is None or (height, width) == self._size:
            return self
        if (height, width) not in self._resized:
            module, read_tokens = self._resize(height, width)
            twin = copy.copy(self)
            twin._module = share_weights(module.to(self.device).eval().requires_grad_(False), self._module)
            twin._read_tokens, twin._size, twin._resized = read_tokens, (height, width), {}
            self._resized[height, width] = twin
        return self._resized[height, width]

    def _number(self, layers: int | Sequence[int]) -> list[int]:
        if isinstance(layers, int):
            return list(range(max(self.num_layers - layers, 0), self.num_layers))
        missing = [layer for layer in layers if not 0 <= layer < self.num_layers]
        if missing:
            raise InputError(f"{self.spec}: no layer {missing[0]}; there are 0 to {self.num_layers - 1}")
        return sorted(set(layers))

    def _require_tiled(self, height: int, width: int) -> None:
        if self.patch_size and (height % self.patch_size or width % self.patch_size):
            raise InputError(
                f"{self.spec}: {height}x{width} pixels are no multiple of the patch size {self.patch_size}"
            )


def share_weights(module: nn.Module, original: nn.Module) -> nn.Module:
    """`module` with the tensors of `original` in place of its own equal ones: a second size costs little memory."""
    theirs = original.state_dict()
    shared = {
        name: theirs[name]
        for name, tensor in module.state_dict().items()
        if name in theirs and tensor.shape == theirs[name].shape and torch.equal(tensor, theirs[name])
    }
    module.load_state_dict(shared, strict=False, assign=True)
    return module


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
        if is_lost_connection(error):
            raise InputError(
                f"{spec}: the hub was not reached, or lost on the way ({type(error).__name__}: {reason}); give the "
                "same command again once there is a network (what was fetched is kept), or a file or folder"
            ) from error
        raise InputError(f"{spec}: cannot be loaded ({type(error).__name__}: {reason})") from error
