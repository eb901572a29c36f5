"""Publication: a folder is written under another name, flushed, and renamed; what bears its name is whole."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException

from lvd_pretrain.errors import InputError

OLD, PARTIAL = ".old", ".partial"  # ends of hidden names: of what is being replaced, and of what is being written
logger = logging.getLogger(__name__)


@contextmanager
def explain_failed_writes(target: Path) -> Iterator[None]:
    """Turn what PyTorch and safetensors raise on a full disk into one line.

    Raises:
        InputError: `target` could not be written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, CheckpointException) as error:
        free = shutil.disk_usage(target.parent if target.parent.exists() else Path.cwd()).free / 2**20
        cause = next((failure[0] for failure in getattr(error, "failures", {}).values()), error)
        raise InputError(
            f"{target} could not be written, {free:.0f} MB are free there ({type(cause).__name__}: "
            f"{' '.join(str(cause).split())[:120]}); what was saved before is whole: make room and start again"
        ) from error


def publish(partial: Path, target: Path) -> None:
    """Flush a finished folder to disk and give it its name in one step; what bore it before goes whole, too."""
    for file in [*partial.rglob("*"), partial]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    old = target.with_name(f".{target.name}{OLD}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed run was writing or replacing in a folder; what it had taken the name from gets it back.

    Only for who holds the run folder's lock: another run's unfinished work looks the same.
    """
    for old in folder.glob(f".step_*{OLD}"):
        target = folder / old.name.removeprefix(".").removesuffix(OLD)
        if target.exists():
            shutil.rmtree(old)
        else:
            old.rename(target)
            logger.warning("%s: back in its place, a killed run was about to replace it", target)
    for partial in folder.glob(f".step_*{PARTIAL}"):
        shutil.rmtree(partial)
