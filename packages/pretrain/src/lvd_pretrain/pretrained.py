"""Weights from elsewhere: opened without unpickling anything, fitted to our network or refused by the knob at fault."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lvd_pretrain.bounds import BELOW_ONE
from lvd_pretrain.config import ARCHITECTURES, ModelConfig
from lvd_pretrain.errors import InputError
from lvd_pretrain.hub import prefer_cache_if_unreachable
from lvd_pretrain.layouts import from_hugging_face, from_official, from_timm
from lvd_pretrain.tensor_files import read_json, read_tensors
from lvd_pretrain.vit import SwiGlu, VisionTransformer, resize_position_embedding

WAYS = "a run, a model folder, a hub id, a .safetensors or .pth file, or timm:NAME[/FILE]"
DIMENSIONS = {  # of the tensors that tell the shape of the others
    "blocks.0.norm1.weight": 1,
    "cls_token": 3,
    "patch_embed.proj.weight": 4,
    "pos_embed": 3,
    "register_tokens": 3,
}
HEAD_DIM = 64  # width per attention head of every released DINOv2 model


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A backbone in the official layout, with the heads that came along."""

    source: str  # as the user wrote it
    shape: ModelConfig  # read off the tensors; resizing of positions as its makers do it
    backbone: dict[str, Tensor]
    heads: dict[str, Tensor]  # "dino_head.mlp.0.weight", ...; often empty

    @property
    def grid(self) -> int:
        """Patches along a side of the stored position embedding."""
        return math.isqrt(self.backbone["pos_embed"].shape[1] - 1)


def open_pretrained(source: str) -> Pretrained:
    """Read weights, float32 on the CPU.

    Args:
        source: a run or Model v1 folder (heads included), any Dinov2 or Dinov2WithRegisters folder or hub id of
            transformers, an official .pth or .safetensors file (a training file's `teacher` included), or
            `timm:NAME[/FILE]`.

    Raises:
        InputError: nothing there, damaged, or no DINOv2 vision transformer.
    """
    try:
        backbone, heads, facts = _open(source)
        backbone, heads = ({name: tensor.float() for name, tensor in part.items()} for part in (backbone, heads))
        return Pretrained(source=source, shape=_shape_of(backbone, facts, source), backbone=backbone, heads=heads)
    except (IndexError, KeyError, RuntimeError) as error:  # hostile shapes: what fits a model was not written by one
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{source}: its tensors do not fit one another ({reason}), so it is no DINOv2 model"
        ) from error


def _open(source: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Backbone in the official layout, heads, and what no tensor tells."""
    path = Path(source)
    if source.startswith("timm:"):
        return _open_timm(source.removeprefix("timm:"))
    if path.is_dir():
        return _open_folder(path)
    if path.suffix in (".pth", ".pt", ".safetensors"):
        backbone, heads = from_official(_read_file(path))
        return backbone, heads, {} if "register_tokens" in backbone else {"pos_embed_offset": 0.1}
    return _open_folder(_download(source))


def load_backbone(backbone: VisionTransformer, weights: Pretrained) -> None:
    """Put weights into a backbone, its position embedding resized to the backbone's grid.

    Raises:
        InputError: another architecture; names the setting that would fit.
    """
    _check_shape(backbone.config, weights)
    state = dict(weights.backbone)
    if weights.grid != backbone.grid:
        ours, grid = backbone.config, (backbone.grid, backbone.grid)
        state["pos_embed"] = resize_position_embedding(
            state["pos_embed"], grid, ours.pos_embed_offset, ours.pos_embed_antialias
        )
    _load(backbone, state, weights.source, "model.arch and model.mlp_ratio")


def load_heads(modules: nn.ModuleDict, weights: Pretrained) -> None:
    """Put the heads that came along into `modules` (`dino_head`, `ibot_head`).

    Raises:
        InputError: they are not the heads of this recipe.
    """
    theirs = {name.split(".")[0] for name in weights.heads}
    ours = set(modules) - {"backbone"}
    if missing := ours - theirs:
        raise InputError(
            f"{weights.source} has no {min(missing)}; set loss.ibot_separate_head=false if its heads are tied, "
            "or init.heads=false for fresh ones"
        )
    for name in sorted(ours):
        state = {
            key.removeprefix(f"{name}."): value for key, value in weights.heads.items() if key.startswith(f"{name}.")
        }
        _load(modules[name], state, weights.source, name)


def load_modules(modules: nn.ModuleDict, weights: Pretrained, heads: bool) -> None:
    """Start a student from weights: its backbone and, if wanted and there, its heads."""
    backbone = modules["backbone"]
    assert isinstance(backbone, VisionTransformer)
    load_backbone(backbone, weights)
    if heads and weights.heads:
        load_heads(modules, weights)


def _load(module: nn.Module, state: Mapping[str, Tensor], source: str, knob: str) -> None:
    wanted = module.state_dict()
    for name in sorted(wanted.keys() | state.keys()):
        ours = tuple(wanted[name].shape) if name in wanted else None
        theirs = tuple(state[name].shape) if name in state else None
        if ours != theirs:
            raise InputError(f"{source}: {name} is {theirs or 'missing'}, the recipe has {ours or 'none'}: see {knob}")
    module.load_state_dict(dict(state))


def _check_shape(ours: ModelConfig, weights: Pretrained) -> None:
    theirs = weights.shape
    knobs: list[tuple[str, Any, Any]] = [
        (f"model.{knob}", getattr(theirs, knob), getattr(ours, knob)) for knob in ("patch_size", "registers", "ffn")
    ]
    arch = next((name for name, dims in ARCHITECTURES.items() if dims == theirs.dims), None)
    if arch and theirs.dims != ours.dims:
        raise InputError(f"{weights.source} is of another architecture: set model.arch={arch}")
    names = ("model.width", "model.depth", "model.heads")
    knobs += [(name, *pair) for name, pair in zip(names, zip(theirs.dims, ours.dims, strict=True), strict=True)]
    for knob, wanted, found in knobs:
        if wanted != found:
            raise InputError(f"{weights.source} has {knob}={wanted}, the recipe has {found}: set {knob}={wanted}")


def _shape_of(backbone: Mapping[str, Tensor], facts: dict[str, Any], source: str) -> ModelConfig:
    gated = "blocks.0.mlp.w3.weight" in backbone
    last = f"blocks.0.mlp.{'w3' if gated else 'fc2'}.weight"
    for name, dimensions in {**DIMENSIONS, last: 2}.items():
        if name not in backbone and name != "register_tokens":
            raise InputError(f"{source}: no '{name}' among the weights, so it is no DINOv2 vision transformer")
        if name in backbone and (backbone[name].dim() != dimensions or not backbone[name].numel()):
            shape = tuple(backbone[name].shape)
            raise InputError(f"{source}: {name} is {shape}, and has {dimensions} dimensions in a DINOv2 model")
    numbers = {int(match[1]) for name in backbone if (match := re.match(r"blocks\.(\d{1,4})\.", name))}
    if numbers != set(range(len(numbers))):
        raise InputError(f"{source}: {len(numbers)} blocks that are not numbered from 0 on")
    if math.isqrt(backbone["pos_embed"].shape[1] - 1) ** 2 != backbone["pos_embed"].shape[1] - 1:
        raise InputError(f"{source}: position embedding {tuple(backbone['pos_embed'].shape)} is no square grid")
    width = backbone["cls_token"].shape[-1]
    hidden = backbone[last].shape[1]
    ratio = 4.0 if gated and SwiGlu.hidden(4 * width) == hidden else hidden / width * (1.5 if gated else 1)
    return ModelConfig(
        width=width,
        depth=len(numbers),
        heads=facts.get("heads", max(1, width // HEAD_DIM)),
        patch_size=backbone["patch_embed.proj.weight"].shape[-1],
        registers=backbone["register_tokens"].shape[1] if "register_tokens" in backbone else 0,
        ffn="swiglu" if gated else "mlp",
        mlp_ratio=ratio,
        drop_path=0.0,
        pos_embed_offset=facts.get("pos_embed_offset", 0.0),
        pos_embed_antialias=facts.get("pos_embed_antialias", True),
    )


def _open_folder(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """A Hugging Face folder, or Model v1, or a run, whose `model` is one."""
    if not (folder / "config.json").is_file():
        folder = folder / "model"
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder.parent}: neither a model folder (no config.json) nor a run that has saved a model")
    config = read_json(folder / "config.json")
    if config.get("model_type") not in ("dinov2", "dinov2_with_registers"):
        raise InputError(f"{folder}: model_type is {config.get('model_type')}, not dinov2 or dinov2_with_registers")
    parts = sorted(part for part in folder.glob("model*.safetensors") if part.is_file())
    if not parts:
        raise InputError(f"{folder}: no model.safetensors in it")
    state = {name: tensor for part in parts for name, tensor in read_tensors(part).items()}
    heads = read_tensors(folder / "heads.safetensors") if (folder / "heads.safetensors").is_file() else {}
    facts: dict[str, Any] = {"pos_embed_antialias": "registers" in config["model_type"]}
    try:
        facts["heads"] = _count(config["num_attention_heads"])
        if (folder / "training.json").is_file():  # ours: resized in training as its recipe says
            trained = read_json(folder / "training.json")["config"]["model"]
            facts["pos_embed_offset"] = min(max(float(trained["pos_embed_offset"]), 0.0), BELOW_ONE)
            facts["pos_embed_antialias"] = bool(trained["pos_embed_antialias"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder}: config.json or training.json lacks or garbles a value ({error!r})") from error
    return from_hugging_face(state), heads, facts


def _count(value: Any) -> int:
    if not isinstance(value, int) or not 0 < value <= 1024:
        raise ValueError(f"{value!a} attention heads")
    return value


def _open_timm(words: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    name, _, file = words.partition("/")
    try:
        import timm
    except ImportError:
        raise InputError(f"timm:{words} needs the extra lvd-pretrain[timm]: timm is not installed") from None
    if name.split(".")[0] not in timm.list_models("*dinov2*"):
        raise InputError(f"timm:{words}: timm has no DINOv2 model '{name}'; e.g. vit_small_patch14_dinov2")
    if not file:
        prefer_cache_if_unreachable()
    try:
        model: Any = timm.create_model(name, pretrained=not file, num_classes=0)
    except Exception as error:  # no network, no such tag, no space: timm and the hub raise what they like
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"timm:{name} could not be fetched ({reason}); give its file as timm:NAME/FILE") from error
    state = _read_file(Path(file)) if file else model.state_dict()
    return from_timm(state), {}, {"heads": model.blocks[0].attn.num_heads}


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give {WAYS}")
    return read_tensors(path)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(f"init weights '{name}': nothing there; give {WAYS}")
    prefer_cache_if_unreachable()
    try:
        return Path(snapshot_download(name, allow_patterns=["config.json", "*.safetensors", "training.json"]))
    except Exception as error:  # no network, no such model, no right to it
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"'{name}' is no file here and could not be fetched ({reason}); give {WAYS}") from error
