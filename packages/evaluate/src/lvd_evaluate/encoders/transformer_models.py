"""Encoders that `transformers.AutoModel` opens: Model v1 folders, hub ids, and their untrained twins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lvd_evaluate.contracts import Tokens
from lvd_evaluate.encoders.frozen import FrozenEncoder, loading
from lvd_evaluate.encoders.weight_files import read_object, require_backed, require_sane_numbers
from lvd_evaluate.errors import InputError
from lvd_evaluate.hub import prefer_cache_if_unreachable

# Model types whose layout is known here: name of the final norm, extra arguments of the forward pass.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "dinov2": ("layernorm", {}),
    "dinov2_with_registers": ("layernorm", {}),
    "dinov3_vit": ("norm", {}),
    "vit": ("layernorm", {"interpolate_pos_encoding": True}),
}
MAX_SIDE = 8192  # pixels of a checkpoint's own image size
UNUSED_WEIGHTS = ("pooler.", "classifier.")  # parts of a checkpoint that no token passes through


def load_transformers(
    spec: str, source: str, *, image_size: int | None, device: torch.device, seed: int | None = None
) -> FrozenEncoder:
    """Open a folder or hub id strictly; with a seed, draw the weights anew instead of loading them.

    Raises:
        InputError: it cannot be opened, is of an unknown type, or its weights do not fit its config exactly.
    """
    import transformers
    from transformers.utils.hub import cached_file

    transformers.utils.logging.disable_progress_bar()
    if not Path(source).is_dir():
        prefer_cache_if_unreachable()
    elif not (Path(source) / "preprocessor_config.json").is_file():
        raise InputError(f"{spec}: holds no preprocessor_config.json, so its size, mean and std are not known")
    with loading(spec):
        files = [Path(str(cached_file(source, name))) for name in ("config.json", "preprocessor_config.json")]
    # read as plain JSON: building the image processor would import torchvision and torch's compiler for seconds
    settings, processor = (read_object(spec, file) for file in files)
    require_sane_numbers(spec, settings)
    origin: dict[str, Any] = {"trust_remote_code": False, "local_files_only": Path(source).is_dir()}
    with loading(spec):
        config = transformers.AutoConfig.from_pretrained(source, **origin)
    if config.model_type not in FAMILIES:
        raise InputError(
            f"{spec}: model type {config.model_type} is not known here (known: {', '.join(FAMILIES)}); "
            "timm: or open_clip: may open the same weights"
        )
    with loading(spec), torch.device("meta"):
        require_backed(spec, files[0].parent, transformers.AutoModel.from_config(config))
    if seed is None:
        module, weights = _load_weights(spec, source, origin)
    else:
        module, weights = _draw_weights(config, seed), f"drawn with seed {seed}"
    norm, arguments = FAMILIES[config.model_type]
    num_prefix = 1 + getattr(config, "num_register_tokens", 0)
    with loading(spec):
        patch_size, size, mean, std = _side(config.patch_size), *_read_processor(processor)

    def read_tokens(pixels: Tensor, layers: Sequence[int], normed: bool) -> list[Tokens]:
        states = module(pixels, output_hidden_states=True, **arguments).hidden_states[1:]  # after each block, un-normed
        finish = getattr(module, norm) if normed else nn.Identity()
        grid = (pixels.shape[2] // patch_size, pixels.shape[3] // patch_size)
        return [split_tokens(finish(states[layer]), num_prefix, grid) for layer in layers]

    return FrozenEncoder(
        module,
        read_tokens,
        spec=spec,
        name=_short_name(spec, Path(source)),
        loader=f"transformers {transformers.__version__} {type(module).__name__}",
        feature=f"class token after the final norm, {config.hidden_size} values",
        architecture={key: value for key, value in config.to_diff_dict().items() if key != "transformers_version"},
        weights=weights,
        image_size=image_size or size,
        patch_size=patch_size,
        mean=mean,
        std=std,
        num_layers=config.num_hidden_layers,
        device=device,
    )


def split_tokens(tokens: Tensor, num_prefix: int, grid: tuple[int, int]) -> Tokens:
    """Name the parts of a token sequence [B, 1 + R + h w, D] that starts with the class token."""
    patches = tokens[:, num_prefix:].unflatten(1, grid)  # [B, h, w, D]
    return Tokens(cls=tokens[:, 0], registers=tokens[:, 1:num_prefix], patches=patches)


def _load_weights(spec: str, source: str, origin: dict[str, Any]) -> tuple[nn.Module, str]:
    from transformers import AutoModel

    with loading(spec):
        module, report = AutoModel.from_pretrained(source, output_loading_info=True, dtype=torch.float32, **origin)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(key) for key in report[kind] if not str(key).startswith(UNUSED_WEIGHTS))
        if names:
            raise InputError(
                f"{spec}: {len(names)} {kind.replace('_', ' ')}, the first is {names[0]}: weights and config disagree"
            )
    return module, f"{len(module.state_dict())} tensors loaded, {len(report['unexpected_keys'])} ignored"


def _draw_weights(config: Any, seed: int) -> nn.Module:
    from transformers import AutoModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModel.from_config(config, dtype=torch.float32)


def _read_processor(processor: dict[str, Any]) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Image size in pixels, mean and std of the channels."""
    size = processor.get("crop_size") or processor.get("size")
    if not (size and processor.get("image_mean") and processor.get("image_std")):
        raise ValueError("preprocessor_config.json lacks crop_size, image_mean or image_std")
    mean, std = (tuple(float(value) for value in processor[key]) for key in ("image_mean", "image_std"))
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, mean)) or not all(0 < x < math.inf for x in std):
        raise ValueError(
            f"preprocessor_config.json: image_mean={mean}, image_std={std}: three numbers each, std above 0"
        )
    if not 0 < _side(size) <= MAX_SIDE:
        raise ValueError(f"preprocessor_config.json: images of {_side(size)} pixels; up to {MAX_SIDE} is sensible")
    return _side(size), mean, std


def _side(size: Any) -> int:
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    return int(size[0] if isinstance(size, (list, tuple)) else size)


def _short_name(spec: str, source: Path) -> str:
    """`runs/tiny/model` -> `tiny`, `runs/tiny/models/step_9` -> `tiny step_9`, `org/name` -> `name`."""
    name = source.absolute().name
    parent = source.absolute().parent
    if name == "model":
        name = parent.name
    elif parent.name == "models":
        name = f"{parent.parent.name} {name}"
    return f"untrained {name}" if spec.startswith("untrained:") else name
