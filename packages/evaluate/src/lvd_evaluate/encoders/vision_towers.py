"""Encoders of timm and open_clip: both give intermediate tokens through `forward_intermediates`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lvd_evaluate.contracts import Tokens
from lvd_evaluate.encoders.frozen import FrozenEncoder, loading
from lvd_evaluate.errors import InputError
from lvd_evaluate.hub import prefer_cache_if_unreachable


def load_timm(spec: str, rest: str, *, image_size: int | None, device: torch.device) -> FrozenEncoder:
    """`NAME` with its released weights, or `NAME/FILE` with the weights of a file, loaded strictly.

    Raises:
        InputError: no such model or file, it cannot be reached, or the weights do not fit.
    """
    import timm

    name, _, file = (rest, "", "") if rest.startswith("hf-hub:") else rest.partition("/")
    if file and not Path(file).is_file():
        raise InputError(f"{spec}: no such file {file}")
    if not file:
        prefer_cache_if_unreachable()
    with loading(spec):
        overlay = {"file": file} if file else None
        module: Any = timm.create_model(name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay)
        config = module.pretrained_cfg
        native = config["input_size"][-1]
        if image_size and image_size != native and hasattr(module, "set_input_size"):
            module.set_input_size(image_size)
    has_blocks = hasattr(module, "blocks") and hasattr(module, "patch_embed")
    with_prefix = {"return_prefix_tokens": True} if getattr(module, "num_prefix_tokens", 0) else {}

    def read_tokens(pixels: Tensor, num_layers: int) -> list[Tokens]:
        layers = module.forward_intermediates(
            pixels, indices=num_layers, norm=True, intermediates_only=True, **with_prefix
        )
        return [tokens_of_map(*layer) if with_prefix else tokens_of_map(layer, None) for layer in layers]

    return FrozenEncoder(
        module,
        read_tokens,
        spec=spec,
        name=f"{name} ({Path(file).stem})" if file else name,
        loader=f"timm {timm.__version__}",
        feature=_feature(bool(with_prefix), module.num_features),
        architecture={"timm": name, "class": type(module).__name__},
        image_size=image_size or native,
        patch_size=module.patch_embed.patch_size[0] if has_blocks else None,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        num_layers=len(module.blocks) if has_blocks else 1,
        device=device,
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
    if not Path(source).is_file():
        prefer_cache_if_unreachable()
    with loading(spec):
        visual: Any = open_clip.create_model(name, pretrained=source, force_image_size=image_size).visual
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None) or getattr(
        getattr(visual, "trunk", None), "blocks", None
    )
    native = visual.image_size[0] if isinstance(visual.image_size, (tuple, list)) else visual.image_size
    patch_size = getattr(visual, "patch_size", None)

    def read_tokens(pixels: Tensor, num_layers: int) -> list[Tokens]:
        output = visual.forward_intermediates(
            pixels, indices=num_layers, normalize_intermediates=True, intermediates_only=True, output_extra_tokens=True
        )
        maps = output["image_intermediates"]
        prefixes = output.get("image_intermediates_prefix") or [None] * len(maps)
        return [tokens_of_map(grid, prefix) for grid, prefix in zip(maps, prefixes, strict=True)]

    with torch.inference_mode():
        probe = visual.eval().forward_intermediates(
            torch.zeros(1, 3, native, native), indices=1, intermediates_only=True, output_extra_tokens=True
        )
    has_prefix = bool(probe.get("image_intermediates_prefix"))
    return FrozenEncoder(
        visual,
        read_tokens,
        spec=spec,
        name=f"OpenCLIP {name} ({Path(source).stem})",
        loader=f"open_clip {open_clip.__version__}",
        feature=_feature(has_prefix, probe["image_intermediates"][-1].shape[1]) + ", before the projection",
        architecture={"open_clip": open_clip.get_model_config(name)},
        image_size=native,
        patch_size=patch_size[0] if patch_size else None,
        mean=tuple(visual.preprocess_cfg["mean"]),
        std=tuple(visual.preprocess_cfg["std"]),
        num_layers=len(blocks) if blocks else 1,
        device=device,
    )


def tokens_of_map(grid: Tensor, prefix: Tensor | None) -> Tokens:
    """Tokens from a map [B, D, h, w] and its prefix [B, 1 + R, D]; without a prefix the map's mean is `cls`."""
    patches = grid.permute(0, 2, 3, 1)  # [B, h, w, D]
    if prefix is None:
        return Tokens(cls=patches.mean(dim=(1, 2)), patches=patches)
    return Tokens(cls=prefix[:, 0], registers=prefix[:, 1:], patches=patches)


def _feature(has_prefix: bool, width: int) -> str:
    what = "class token after the final norm" if has_prefix else "mean of the last map (no class token)"
    return f"{what}, {width} values"
