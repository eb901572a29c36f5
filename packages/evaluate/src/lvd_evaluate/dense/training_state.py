"""The state of a training run on disk: what was begun with the same everything goes on where it stopped."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lvd_evaluate import ranks
from lvd_evaluate.publish import publish_bytes


@dataclass(frozen=True)
class TrainingState:
    """One file, named after everything that the numbers depend on; none if there is no folder."""

    folder: Path | None
    identity: dict[str, Any]

    @property
    def path(self) -> Path | None:
        """Where it lies."""
        key = hashlib.sha256(json.dumps(self.identity, sort_keys=True, default=str).encode()).hexdigest()[:16]
        return self.folder / f"state-{key}.pt" if self.folder else None

    def load(self) -> dict[str, Any] | None:
        """What was saved last, the same on each process."""
        found = ranks.share(self.path is not None and self.path.is_file())
        return torch.load(self.path, map_location="cpu", weights_only=True) if found and self.path else None

    def save(self, content: dict[str, Any]) -> None:
        """Replace the file in one step; called by every process, written by the main one."""
        if self.path is not None and ranks.is_main():
            buffer = io.BytesIO()
            torch.save(content, buffer)
            publish_bytes(self.path, buffer.getvalue())
        ranks.wait()

    def remove(self) -> None:
        """Forget it."""
        ranks.wait()
        if self.path is not None and ranks.is_main():
            self.path.unlink(missing_ok=True)
