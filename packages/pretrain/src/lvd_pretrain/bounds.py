"""Between what any number of config.py must lie; of a pair or triple each of its numbers."""

from __future__ import annotations

from typing import Any

from lvd_pretrain.errors import InputError

MANY = 2.0**31
BOUNDS: dict[str, tuple[float, float]] = {
    "seed": (0, MANY),
    "log_every": (1, MANY),
    "data.workers": (0, 1024),
    "data.shuffle_buffer": (1, MANY),
    "model.patch_size": (1, MANY),
    "model.registers": (0, 1024),
    "init.freeze_backbone_steps": (0, MANY),
    "crops.local_number": (0, 1024),
    "crops.global_scale": (1e-4, 1),
    "crops.local_scale": (1e-4, 1),
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
    "teacher.student_temperature": (1e-4, 100),
    "teacher.temperature": (1e-4, 100),
    "teacher.momentum": (0, 1),
    "optim.steps": (1, MANY),
    "optim.batch_size": (1, MANY),
    "optim.warmup": (0, MANY),
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


def check_bounds(settings: dict[str, Any]) -> None:
    """Compare a configuration's numbers with their bounds.

    Args:
        settings: the configuration as nested dictionaries.

    Raises:
        InputError: one lies outside; names it and its bounds.
    """
    for key, (low, high) in BOUNDS.items():
        value: Any = settings
        for part in key.split("."):
            value = value[part]
        for number in value if isinstance(value, (list, tuple)) else (value,):
            if not low <= number <= high:
                raise InputError(f"{key}={number}: must lie between {low:g} and {high:g}")
