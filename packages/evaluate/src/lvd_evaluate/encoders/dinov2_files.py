"""DINOv2 files in the layout of torch.hub's facebookresearch/dinov2: nothing unpickled, shape read off the tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers.mlp import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from lvd_evaluate.encoders.frozen import FrozenEncoder, loading
from lvd_evaluate.encoders.vision_towers import timm_reader
from lvd_evaluate.encoders.weight_files import read_tensors
from lvd_evaluate.errors import InputError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as in Meta's evaluation
IMAGE_SIZE = 224  # pixels, as there; the files say 518, the size of the last stage of training
HEAD_WIDTH = 64  # of every released model; no tensor tells the number of heads
PREFIXES = re.compile(r"^((teacher|module|backbone)\.)+")
CHUNK = re.compile(r"^blocks\.\d+\.(\d+\.)")  # training files name block 7 `blocks.1.7` where blocks are in chunks
UNUSED = re.compile(r"^(mask_token$|dino_head\.|ibot_head\.|student\.)")  # no token passes through these


@dataclass(frozen=True)
class Shape:
    """What the tensors of a file say about their network."""

    width: int
    depth: int
    patch_size: int
    grid: int  # patches along a side of the stored position embedding
    num_registers: int
    hidden: int  # width of the feed-forward layer, gate and value apart
    gated: bool  # SwiGLU, as in ViT-g, else GELU
    qkv_bias: bool
    layer_scale: bool


class HubVisionTransformer(VisionTransformer):
    """timm's blocks under the names and with the position embeddings of Meta's own code."""

    def __init__(self, shape: Shape) -> None:
        gate: dict[str, Any] = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU} if shape.gated else {}
        hidden = shape.hidden * (2 if shape.gated else 1)
        super().__init__(
            img_size=shape.grid * shape.patch_size,
            patch_size=shape.patch_size,
            num_classes=0,
            embed_dim=shape.width,
            depth=shape.depth,
            num_heads=shape.width // HEAD_WIDTH,
            mlp_ratio=(hidden + 0.5) / shape.width,  # rounded down to `hidden` again
            qkv_bias=shape.qkv_bias,
            init_values=1.0 if shape.layer_scale else None,
            reg_tokens=shape.num_registers,
            no_embed_class=True,
            dynamic_img_size=True,
            **gate,
        )
        # unlike timm's, a table with a row for the class token, whether there are registers or not
        self.pos_embed: nn.Parameter = nn.Parameter(torch.empty(1, 1 + shape.grid**2, shape.width))

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Patches [B, h, w, D] with class token and positions, registers between them without: [B, 1 + R + h w, D]."""
        positions = resample_positions(self.pos_embed, *x.shape[1:3], with_registers=self.reg_token is not None)
        assert self.cls_token is not None
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(1, 2)], dim=1) + positions
        if self.reg_token is None:
            return tokens
        return torch.cat([tokens[:, :1], self.reg_token.expand(len(x), -1, -1), tokens[:, 1:]], dim=1)


def resample_positions(table: Tensor, height: int, width: int, *, with_registers: bool) -> Tensor:
    """A position embedding [1, 1 + N, D] for a grid of height x width patches, bicubic, as Meta's code does it.

    Models without registers: by the factor (side + 0.1) / sqrt(N), no antialiasing. With registers: to the size, with
    antialiasing.
    """
    grid = math.isqrt(table.shape[1] - 1)
    if (height, width) == (grid, grid):
        return table
    patches = table[:, 1:].float().unflatten(1, (grid, grid)).permute(0, 3, 1, 2)  # [1, D, grid, grid]
    if with_registers:
        patches = functional.interpolate(patches, size=(height, width), mode="bicubic", antialias=True)
    else:
        factors = ((height + 0.1) / grid, (width + 0.1) / grid)
        patches = functional.interpolate(patches, scale_factor=factors, mode="bicubic")
    return torch.cat([table[:, :1], patches.flatten(2).transpose(1, 2).to(table.dtype)], dim=1)


def load_dinov2_file(
    spec: str, file: str, *, image_size: int | None, device: torch.device, seed: int | None = None
) -> FrozenEncoder:
    """Open a published file or a training file's teacher; with a seed, draw the weights anew in the same shape.

    Raises:
        InputError: no such file, more than tensors in it, or no DINOv2 vision transformer of exactly known shape.
    """
    found = read_tensors(spec, Path(file))
    state, ignored = _name_as_timm(spec, found)
    shape = _read_shape(spec, state)
    with torch.device("meta"):
        module = HubVisionTransformer(shape)
    missing, surplus = sorted(module.state_dict().keys() - state), sorted(state.keys() - module.state_dict())
    for kind, names in (("missing", missing), ("unexpected", surplus)):
        if names:
            raise InputError(f"{spec}: {len(names)} {kind} keys, the first is {names[0]}: no DINOv2 layout known here")
    with loading(spec):
        module.load_state_dict(state, assign=True)
    if seed is not None:
        module = _draw_weights(shape, seed)
    resampling = "bicubic antialiased" if shape.num_registers else "bicubic by scale + 0.1"
    return FrozenEncoder(
        module,
        timm_reader(module, has_blocks=True),
        spec=spec,
        name=Path(file).stem if seed is None else f"untrained {Path(file).stem}",
        loader=f"official DINOv2 file on timm {timm.__version__}, positions {resampling} as torch.hub",
        feature=f"class token after the final norm, {shape.width} values",
        architecture={"layout": "dinov2"} | asdict(shape),
        weights=f"{len(state)} tensors loaded, {len(ignored)} ignored" if seed is None else f"drawn with seed {seed}",
        image_size=image_size or min(IMAGE_SIZE // shape.patch_size, shape.grid) * shape.patch_size,
        patch_size=shape.patch_size,
        mean=MEAN,
        std=STD,
        num_layers=shape.depth,
        device=device,
    )


def _draw_weights(shape: Shape, seed: int) -> HubVisionTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = HubVisionTransformer(shape)
        nn.init.trunc_normal_(module.pos_embed, std=0.02)
    return module


def _name_as_timm(spec: str, found: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Float32 tensors under the names of HubVisionTransformer, and the names of those that it has no use for."""
    state: dict[str, Tensor] = {}
    ignored: list[str] = []
    for full, tensor in found.items():
        name = CHUNK.sub(r"blocks.\1", PREFIXES.sub("", full))
        if UNUSED.match(name):
            ignored.append(name)
            continue
        name = name.replace("register_tokens", "reg_token").replace(".w12.", ".fc1.").replace(".w3.", ".fc2.")
        if name in state:
            raise InputError(f"{spec}: holds {name} twice, the second time as {full}")
        state[name] = tensor.float()
    return state, ignored


def _read_shape(spec: str, state: Mapping[str, Tensor]) -> Shape:
    needed = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight")
    missing = [name for name in needed if name not in state]
    if missing:
        raise InputError(
            f"{spec}: no '{missing[0]}' in it, so it is no DINOv2 file in Meta's layout; weights of transformers are "
            "opened by their folder, those of timm as timm:NAME/FILE"
        )
    positions, patches, fc1, fc2 = (state[name] for name in needed[1:])
    dimensions = (positions.ndim, patches.ndim, fc1.ndim, fc2.ndim)
    width = positions.shape[-1]
    grid = math.isqrt(max(positions.shape[1] - 1, 0)) if positions.ndim == 3 else 0
    if dimensions != (3, 4, 2, 2) or grid < 1 or grid**2 != positions.shape[1] - 1 or not width or width % HEAD_WIDTH:
        raise InputError(
            f"{spec}: position embedding {tuple(positions.shape)}, patch embedding {tuple(patches.shape)}: not a "
            f"class token and a square grid at a width of whole heads of {HEAD_WIDTH}"
        )
    numbers = {int(match[1]) for name in state if (match := re.match(r"blocks\.(\d{1,4})\.", name))}
    if numbers != set(range(len(numbers))):
        raise InputError(f"{spec}: {len(numbers)} blocks that are not numbered from 0 on")
    return Shape(
        width=width,
        depth=len(numbers),
        patch_size=patches.shape[-1],
        grid=grid,
        num_registers=state["reg_token"].shape[1] if "reg_token" in state else 0,
        hidden=fc2.shape[1],
        gated=len(fc1) == 2 * fc2.shape[1],
        qkv_bias="blocks.0.attn.qkv.bias" in state,
        layer_scale="blocks.0.ls1.gamma" in state,
    )
