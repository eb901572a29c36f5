"""Two named sets of choices: what trained the released weights, and what the paper says."""

from __future__ import annotations

from typing import Any

from lvd_pretrain.errors import InputError

DEFAULT_PRESET = "clean"

# Where the released weights' training and what was meant part ways. What both share is in the defaults of config.py,
# among it that prototypes' lengths (weight_g) are trained and decayed. Two traits of the released code are in neither:
# losses in half precision, where close images make KoLeo infinite, and masks short of their count by a few patches.
PRESETS: dict[str, dict[str, Any]] = {
    "dinov2-released": {
        # The code draws blur with probability 1 - p: nominally 1.0, 0.1, 0.5, in effect these, and so trained.
        "augment": {"blur": [0.0, 0.9, 0.5]},
        # As the releases without registers; those with registers resize as `clean` does.
        "model": {"pos_embed_offset": 0.1, "pos_embed_antialias": False},
    },
    "clean": {
        "augment": {"blur": [1.0, 0.1, 0.5]},  # BYOL's, as the released code is written; the paper gives none
        "model": {"pos_embed_offset": 0.0, "pos_embed_antialias": True},  # to a size, without aliasing
    },
}


def preset_settings(name: str) -> dict[str, Any]:
    """Settings of a preset.

    Raises:
        InputError: there is none of that name.
    """
    if name not in PRESETS:
        raise InputError(f"preset={name}: not one of {', '.join(PRESETS)}")
    return PRESETS[name]
