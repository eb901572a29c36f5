"""Encoders of timm and open_clip: both give intermediate tokens through `forward_intermediates`."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lvd_evaluate.contracts import Tokens
from lvd_evaluate.encoders.frozen import FrozenEncoder, ReadTokens, loading
from lvd_evaluate.encoders.weight_files import require_stored
from lvd_evaluate.errors import InputError
from lvd_evaluate.hub import prefer_cache_if_unreachable


def load_timm(spec: str, rest: str, *, image_size: int | None, device: torch.device) -> FrozenEncoder:
    """`NAME` with its released weights, or `NAME/FILE` with the weights of a file, loaded strictly.

    Raises:
        InputError: no such model or file, it cannot be reached, or the weights do not fit.
    """
    import timm

    name, _, file = (rest, "", "") if rest.startswith("hf-hub:") else rest.partition("/")
    if file:
        require_stored(spec, Path(file))
    else:
        prefer_cache_if_unreachable()
    with loading(spec):
        module = _create_timm(name, {"file": file} if file else None)
    config = module.pretrained_cfg
    native = config["input_size"][-1]
    has_blocks = hasattr(module, "blocks") and hasattr(module, "patch_embed")
    is_fixed = has_blocks or hasattr(module, "set_input_size")  # what neither holds is a convolutional network
    any_size = not is_fixed or getattr(module, "dynamic_img_size", False)

    def resize(height: int, width: int) -> tuple[nn.Module, ReadTokens]:
        if not hasattr(module, "set_input_size"):
            raise InputError(f"{spec}: timm fixes the size of this network to {native} pixels")
        twin = deepcopy(module)
        with loading(spec):
            twin.set_input_size((height, width))
        return twin, timm_reader(twin, has_blocks)

    sized, read_tokens = module, timm_reader(module, has_blocks)
    if image_size and image_size != native and not any_size:
        sized, read_tokens = resize(image_size, image_size)
    return FrozenEncoder(
        sized,
        read_tokens,
        spec=spec,
        name=f"{name} ({Path(file).stem})" if file else name,
        loader=f"timm {timm.__version__}",
        feature=_feature(getattr(module, "num_prefix_tokens", 0) > 0, attention_pool(module), module.num_features),
        architecture={"timm": name, "class": type(module).__name__},
        weights=f"{len(module.state_dict())} tensors loaded strictly",
        image_size=image_size or native,
        patch_size=module.patch_embed.patch_size[0] if has_blocks else None,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        num_layers=len(module.blocks) if has_blocks else 1,
        device=device,
        resize=None if any_size else resize,
    )


def load_open_clip(spec: str, rest: str, *, image_size: int | None, device: torch.device) -> FrozenEncoder:
    """`NAME/TAG` with released weights or `NAME/FILE`; tokens are taken before the projection to the text space.

    Raises:
        InputError: no such model, tag or file, it cannot be reached, or the weights do not fit.
    """
    import open_clip

    name, _, source = rest.partition("/")
    if not source:
        raise InputError(f"{spec}: give open_clip:NAME/TAG or open_clip:NAME/FILE")
    if Path(source).is_file():
        require_stored(spec, Path(source))
    else:
        prefer_cache_if_unreachable()
    create = lambda size: open_clip.create_model(name, pretrained=source, force_image_size=size).visual  # noqa: E731
    with loading(spec):
        visual: Any = create(image_size)
    trunk = getattr(visual, "trunk", None)
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None) or getattr(trunk, "blocks", None)
    native = visual.image_size[0] if isinstance(visual.image_size, (tuple, list)) else visual.image_size
    patch_size = getattr(visual, "patch_size", None) or getattr(getattr(trunk, "patch_embed", None), "patch_size", None)

    def resize(height: int, width: int) -> tuple[nn.Module, ReadTokens]:
        with loading(spec):
            twin: Any = create((height, width))
        return twin, _open_clip_reader(twin, bool(blocks))

    with torch.inference_mode():
        probe = visual.eval().forward_intermediates(
            torch.zeros(1, 3, native, native), indices=1, intermediates_only=True, output_extra_tokens=True
        )
    has_prefix = bool(probe.get("image_intermediates_prefix"))
    return FrozenEncoder(
        visual,
        _open_clip_reader(visual, bool(blocks)),
        spec=spec,
        name=f"OpenCLIP {name} ({Path(source).stem})",
        loader=f"open_clip {open_clip.__version__}",
        feature=_feature(has_prefix, attention_pool(trunk), probe["image_intermediates"][-1].shape[1])
        + ", before the projection",
        architecture={"open_clip": open_clip.get_model_config(name)},
        weights=f"{len(visual.state_dict())} tensors loaded strictly, text tower left out",
        image_size=native,
        patch_size=patch_size[0] if patch_size else None,
        mean=tuple(visual.preprocess_cfg["mean"]),
        std=tuple(visual.preprocess_cfg["std"]),
        num_layers=len(blocks) if blocks else 1,
        device=device,
        resize=resize,
    )


def _create_timm(name: str, overlay: dict[str, Any] | None) -> Any:
    """The network with its weights, for images of any size where its class can."""
    import timm

    settings: dict[str, Any] = {"pretrained": True, "num_classes": 0, "pretrained_cfg_overlay": overlay}
    try:
        return timm.create_model(name, dynamic_img_size=True, **settings)
    except TypeError:  # this class has no such switch
        return timm.create_model(name, **settings)


def timm_reader(module: Any, has_blocks: bool) -> ReadTokens:
    """Tokens through timm's `forward_intermediates`; a network without blocks has one layer, its last map."""
    with_prefix = {"return_prefix_tokens": True} if getattr(module, "num_prefix_tokens", 0) else {}

    def read_tokens(pixels: Tensor, layers: Sequence[int], normed: bool) -> list[Tokens]:
        maps = module.forward_intermediates(
            pixels, indices=list(layers) if has_blocks else 1, norm=normed, intermediates_only=True, **with_prefix
        )
        return [
            tokens_of_map(*found) if with_prefix else tokens_of_map(found, None, attention_pool(module))
            for found in maps
        ]

    return read_tokens


def _open_clip_reader(visual: Any, has_blocks: bool) -> ReadTokens:
    def read_tokens(pixels: Tensor, layers: Sequence[int], normed: bool) -> list[Tokens]:
        output = visual.forward_intermediates(
            pixels,
            indices=list(layers) if has_blocks else 1,
            normalize_intermediates=normed,
            intermediates_only=True,
            output_extra_tokens=True,
        )
        maps = output["image_intermediates"]
        prefixes = output.get("image_intermediates_prefix") or [None] * len(maps)
        pool = attention_pool(getattr(visual, "trunk", None))
        return [tokens_of_map(grid, prefix, pool) for grid, prefix in zip(maps, prefixes, strict=True)]

    return read_tokens


def tokens_of_map(grid: Tensor, prefix: Tensor | None, pool: nn.Module | None = None) -> Tokens:
    """Tokens from a map [B, D, h, w] and its prefix [B, 1 + R, D].

    Without a prefix `cls` is what the network's own attention pool makes of the map (SigLIP), or else the map's mean.
    """
    patches = grid.permute(0, 2, 3, 1)  # [B, h, w, D]
    if prefix is None:
        return Tokens(cls=pool(patches.flatten(1, 2)) if pool else patches.mean(dim=(1, 2)), patches=patches)
    return Tokens(cls=prefix[:, 0], registers=prefix[:, 1:], patches=patches)


def attention_pool(trunk: Any) -> nn.Module | None:
    """The pool that stands for a class token in timm's towers with global_pool "map", as SigLIP's."""
    return getattr(trunk, "attn_pool", None)


def _feature(has_prefix: bool, pool: nn.Module | None, width: int) -> str:
    what = "class token after the final norm"
    if not has_prefix:
        what = "attention pool of the last map" if pool else "mean of the last map (no class token)"
    return f"{what}, {width} values"
