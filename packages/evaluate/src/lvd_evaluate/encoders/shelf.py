"""The encoder of one SPEC at each size that tasks ask for, opened once."""

from __future__ import annotations

from typing import Any

from lvd_evaluate import ranks
from lvd_evaluate.config import EvaluateConfig
from lvd_evaluate.contracts import Encoder
from lvd_evaluate.encoders import find_device, load_encoder


class EncoderShelf:
    """Opens an encoder when it is first asked for; dropping the shelf lets the weights go."""

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self._opened: dict[tuple[Any, ...], Encoder] = {}

    def take(self, config: EvaluateConfig) -> Encoder:
        """The encoder as a task's settings ask for it.

        Raises:
            InputError: it cannot be opened, here or on another process of this launch.
        """
        data, device = config.data, config.features.device
        wanted = (data.image_size, data.crop_ratio, config.seed, device)
        if wanted not in self._opened:
            with ranks.all_or_none():
                self._opened[wanted] = load_encoder(
                    self.spec,
                    image_size=data.image_size,
                    crop_ratio=data.crop_ratio,
                    seed=config.seed,
                    device=find_device(device),
                )
        return self._opened[wanted]
