"""Between what every number of config.py must lie; of a pair or triple each of its numbers."""

from __future__ import annotations

from typing import Any

from lvd_pretrain.errors import InputError

MANY = 2.0**31
BELOW_ONE = 1 - 1e-9
BOUNDS: dict[str, tuple[float, float]] = {
    "seed": (0, MANY),
    "log_every": (1, MANY),
    "data.workers": (0, 1024),
    "data.shuffle_buffer": (1, MANY),
    "model.width": (1, MANY),
    "model.depth": (1, MANY),
    "model.heads": (1, MANY),
    "model.patch_size": (1, MANY),
    "model.registers": (0, 1024),
    "model.mlp_ratio": (1e-3, 1024),
    "model.layerscale": (0, MANY),
    "model.init_std": (0, MANY),
    "model.drop_path": (0, BELOW_ONE),
    "model.pos_embed_offset": (0, BELOW_ONE),
    "init.freeze_backbone_steps": (0, MANY),
    "crops.local_number": (0, 1024),
    "crops.global_size": (1, MANY),
    "crops.local_size": (1, MANY),
    "crops.global_scale": (1e-4, 1),
    "crops.local_scale": (1e-4, 1),
    "crops.flip": (0, 1),
    "augment.jitter": (0, 1),
    "augment.brightness": (0, MANY),
    "augment.contrast": (0, MANY),
    "augment.saturation": (0, MANY),
    "augment.hue": (0, 0.5),
    "augment.gray": (0, 1),
    "augment.blur": (0, 1),
    "augment.blur_sigma": (0, 1024),
    "augment.solarize": (0, 1),
    "augment.mean": (0, 1),
    "augment.std": (1e-6, MANY),
    "masks.probability": (0, 1),
    "masks.ratio": (0, 1),
    "dino_head.prototypes": (2, MANY),
    "dino_head.hidden": (1, MANY),
    "dino_head.bottleneck": (1, MANY),
    "ibot_head.prototypes": (2, MANY),
    "ibot_head.hidden": (1, MANY),
    "ibot_head.bottleneck": (1, MANY),
    "loss.dino": (1e-9, MANY),
    "loss.ibot": (0, MANY),
    "loss.koleo": (0, MANY),
    "teacher.sinkhorn_iterations": (1, 1000),
    "teacher.center_momentum": (0, 1),
    "teacher.student_temperature": (1e-4, 100),
    "teacher.temperature": (1e-4, 100),
    "teacher.temperature_warmup": (0, MANY),
    "teacher.momentum": (0, 1),
    "optim.steps": (1, MANY),
    "optim.batch_size": (1, MANY),
    "optim.base_lr": (0, MANY),
    "optim.min_lr": (0, MANY),
    "optim.warmup": (0, MANY),
    "optim.betas": (0, BELOW_ONE),
    "optim.weight_decay": (0, MANY),
    "optim.layer_decay": (0, 1),
    "optim.patch_embed_lr": (0, MANY),
    "optim.freeze_last_layer": (0, MANY),
    "optim.clip": (0, MANY),
    "save.every": (1, MANY),
    "save.keep": (1, MANY),
    "save.keep_every": (0, MANY),
    "monitor.patience": (0, MANY),
    "knn.every": (0, MANY),
    "knn.images": (2, MANY),
    "knn.neighbours": (1, MANY),
    "knn.temperature": (1e-4, 100),
}
RANGES = ("crops.global_scale", "crops.local_scale", "augment.blur_sigma", "masks.ratio")  # from, to


def check_bounds(settings: dict[str, Any]) -> None:
    """Compare a configuration's numbers with their bounds.

    Args:
        settings: the configuration as nested dictionaries.

    Raises:
        InputError: one lies outside, or a range ends before it begins; names it and its bounds.
    """
    for key, (low, high) in BOUNDS.items():
        value = _value(settings, key)
        for number in value if isinstance(value, (list, tuple)) else (value,):
            if number is not None and not low <= number <= high:
                raise InputError(f"{key}={number}: must lie between {low:.10g} and {high:.10g}")
    for key in RANGES:
        start, end = _value(settings, key)
        if start > end:
            raise InputError(f"{key}=[{start},{end}]: from the smaller number to the larger: [{end},{start}]")


def _value(settings: dict[str, Any], key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = value[part]
    return value
