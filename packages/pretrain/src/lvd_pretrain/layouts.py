"""One backbone under three sets of names: the official layout (ours), Hugging Face's and timm's.

Tensors change their names and cuts, never their values: official -> Hugging Face -> official is bit for bit. timm has
no mask token, and with registers it holds cls_token and its position embedding as one sum; what comes back from there
gives the same tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from lvd_pretrain.errors import InputError

QKV = ("query", "key", "value")  # thirds of the official qkv rows
HUGGING_FACE_TOP = {
    "cls_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "register_tokens": "embeddings.register_tokens",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
HUGGING_FACE_BLOCK = {"ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1"} | {
    f"{official}.{kind}": f"{theirs}.{kind}"
    for official, theirs in (
        ("norm1", "norm1"),
        ("norm2", "norm2"),
        ("attn.proj", "attention.output.dense"),
        ("mlp.fc1", "mlp.fc1"),
        ("mlp.fc2", "mlp.fc2"),
        ("mlp.w12", "mlp.weights_in"),
        ("mlp.w3", "mlp.weights_out"),
    )
    for kind in ("weight", "bias")
}
OFFICIAL_TOP = {theirs: official for official, theirs in HUGGING_FACE_TOP.items()}
OFFICIAL_BLOCK = {theirs: official for official, theirs in HUGGING_FACE_BLOCK.items()}


def to_hugging_face(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as transformers 4 writes them to disk, which version 5 reads and writes too; qkv is cut in three."""
    state = {}
    for name, tensor in official.items():
        qkv = re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name)
        if qkv:
            for part, third in zip(QKV, tensor.chunk(3), strict=True):
                state[f"encoder.layer.{qkv[1]}.attention.attention.{part}.{qkv[2]}"] = third.contiguous()
            continue
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        state[f"encoder.layer.{block[1]}.{HUGGING_FACE_BLOCK[block[2]]}" if block else HUGGING_FACE_TOP[name]] = tensor
    return state


def from_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_hugging_face`; a classifier on top is left out.

    Raises:
        InputError: a name that no Dinov2Model or Dinov2WithRegistersModel has.
    """
    official: dict[str, Tensor] = {}
    thirds: dict[tuple[str, str], dict[str, Tensor]] = {}
    for full, tensor in state.items():
        name = re.sub(r"^(dinov2|dinov2_with_registers)\.", "", full)
        if name.startswith("classifier."):
            continue
        qkv = re.fullmatch(r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)", name)
        block = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", name)
        if qkv:
            thirds.setdefault((qkv[1], qkv[3]), {})[qkv[2]] = tensor
        elif block and block[2] in OFFICIAL_BLOCK:
            official[f"blocks.{block[1]}.{OFFICIAL_BLOCK[block[2]]}"] = tensor
        elif name in OFFICIAL_TOP:
            official[OFFICIAL_TOP[name]] = tensor
        else:
            raise InputError(f"'{full}' is no weight of a DINOv2 model in transformers")
    for (index, kind), parts in thirds.items():
        if len(parts) == 3:  # what is missing is named when the weights are put into a model
            official[f"blocks.{index}.attn.qkv.{kind}"] = torch.cat([parts[part] for part in QKV])
    return official


def to_timm(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of timm's `vit_*_patch14_dinov2` and, with registers, `vit_*_patch14_reg4_dinov2`."""
    state = {
        name.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2."): tensor
        for name, tensor in official.items()
        if name != "mask_token"
    }
    if "register_tokens" in state:  # timm adds positions to patches alone, so the cls token carries its own
        cls_position, positions = state["pos_embed"].split([1, state["pos_embed"].shape[1] - 1], dim=1)
        state["cls_token"] = state["cls_token"] + cls_position
        state["pos_embed"] = positions.contiguous()
        state["reg_token"] = state.pop("register_tokens")
    return state


def from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official names; the mask token, which timm drops, is zeros, as at its first initialisation."""
    official = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    if "cls_token" not in official or "pos_embed" not in official:
        raise InputError("no 'cls_token' and 'pos_embed' among the weights: not a DINOv2 model of timm")
    if "reg_token" in official:
        official["register_tokens"] = official.pop("reg_token")
        nothing = torch.zeros_like(official["cls_token"])
        official["pos_embed"] = torch.cat([nothing, official["pos_embed"]], dim=1)
    for name in [name for name in official if name.endswith("mlp.fc1.weight")]:
        prefix = name.removesuffix("fc1.weight")
        if len(official[name]) == 2 * official[f"{prefix}fc2.weight"].shape[1]:  # gate and value in one: SwiGLU
            for kind in ("weight", "bias"):
                official[f"{prefix}w12.{kind}"] = official.pop(f"{prefix}fc1.{kind}")
                official[f"{prefix}w3.{kind}"] = official.pop(f"{prefix}fc2.{kind}")
    official["mask_token"] = torch.zeros_like(official["cls_token"][0])
    return official


def from_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sort a published or a training file into backbone and heads.

    Training files have `backbone.`, `dino_head.` and `ibot_head.` before the names, blocks in chunks
    (`blocks.1.7.` is block 7), and newer ones PyTorch's own names of a weight norm.
    """
    backbone, heads = {}, {}
    for full, tensor in state.items():
        name = full.replace("last_layer.parametrizations.weight.original0", "last_layer.weight_g")
        name = name.replace("last_layer.parametrizations.weight.original1", "last_layer.weight_v")
        if name.startswith(("dino_head.", "ibot_head.")):
            heads[name] = tensor
        else:
            backbone[re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name.removeprefix("backbone."))] = tensor
    return backbone, heads
