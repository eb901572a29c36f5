"""Model v1: the teacher's backbone as a folder that `transformers.AutoModel.from_pretrained` opens.

Keys on disk are those of transformers 4, which version 5 reads and writes too. Without registers the class is
Dinov2Model, with registers Dinov2WithRegistersModel. The heads, which nobody publishes, lie beside it in
`heads.safetensors`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lvd_pretrain import __version__
from lvd_pretrain.card import model_card
from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.curves import draw_curves, read_curves
from lvd_pretrain.layouts import to_hugging_face
from lvd_pretrain.publish import PARTIAL, publish
from lvd_pretrain.vit import NORM_EPS

CURVES = "curves.svg"


def hugging_face_config(config: PretrainConfig) -> dict[str, Any]:
    """`config.json` of the exported model."""
    model = config.model
    width, depth, heads = model.dims
    shape: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "mlp_ratio": int(model.mlp_ratio) if model.mlp_ratio == int(model.mlp_ratio) else model.mlp_ratio,
        "hidden_act": "gelu",
        "layer_norm_eps": NORM_EPS,
        "image_size": config.crops.global_size,
        "patch_size": model.patch_size,
        "num_channels": 3,
        "qkv_bias": True,
        "layerscale_value": model.layerscale,
        "drop_path_rate": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
        "use_swiglu_ffn": model.ffn == "swiglu",
        "torch_dtype": "float32",
    }
    if model.registers:
        return {
            "architectures": ["Dinov2WithRegistersModel"],
            "model_type": "dinov2_with_registers",
            "num_register_tokens": model.registers,
            **shape,
        }
    return {"architectures": ["Dinov2Model"], "model_type": "dinov2", **shape}


def preprocessor_config(config: PretrainConfig) -> dict[str, Any]:
    """`preprocessor_config.json`: short side at 256/224 of the training size, centre crop, this run's mean and std."""
    size = config.crops.global_size
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": round(size * 256 / 224)},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.augment.mean),
        "image_std": list(config.augment.std),
    }


def export_model(
    run: Path, step: int, teacher: Mapping[str, Mapping[str, Tensor]], config: PretrainConfig, facts: dict[str, Any]
) -> Path:
    """Write `models/step_XXXXXXXX` of a run folder and point `model` at it. One rank calls this.

    Args:
        run: run folder.
        step: optimizer updates behind these weights.
        teacher: whole weights of backbone and heads (`ranks.gather_weights`).
        config: the run's configuration.
        facts: what `training.json` says beside config, step and versions.

    Returns:
        The published folder.
    """
    target = run / "models" / f"step_{step:08d}"
    partial = target.with_name(f".{target.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    backbone = {key: _on_disk(tensor) for key, tensor in teacher["backbone"].items()}
    save_file(to_hugging_face(backbone), partial / "model.safetensors", {"format": "pt"})
    heads = {
        f"{name}.{key}": _on_disk(tensor)
        for name, head in teacher.items()
        if name != "backbone"
        for key, tensor in head.items()
    }
    save_file(heads, partial / "heads.safetensors", {"format": "pt"})
    versions = {"lvd_pretrain": __version__, "torch": torch.__version__}
    _write_json(partial / "config.json", hugging_face_config(config))
    _write_json(partial / "preprocessor_config.json", preprocessor_config(config))
    _write_json(partial / "training.json", {"step": step, **facts, "versions": versions, "config": config.to_dict()})
    curves = read_curves(run / "metrics.jsonl", step)
    if curves:
        (partial / CURVES).write_text(draw_curves(curves))
    (partial / "README.md").write_text(model_card(config, step, facts, CURVES if curves else None))
    publish(partial, target)
    link = run / ".model.partial"
    link.unlink(missing_ok=True)
    link.symlink_to(target.relative_to(run))
    os.replace(link, run / "model")
    return target


def _on_disk(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu().contiguous()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
