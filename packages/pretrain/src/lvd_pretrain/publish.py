"""Publication: a folder is written under another name, flushed, and renamed; what bears its name is whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def publish(partial: Path, target: Path) -> None:
    """Flush a finished folder to disk and give it its name in one step."""
    for file in [*partial.rglob("*"), partial]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
