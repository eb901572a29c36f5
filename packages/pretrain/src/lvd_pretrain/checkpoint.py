"""Checkpoints to resume from: whole or absent, found by themselves, opened on any number of ranks.

A checkpoint holds weights, teacher, optimizer and step. There is no generator state in it: every random draw of a run
is a function of the seed and the step.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from lvd_pretrain.errors import InputError
from lvd_pretrain.publish import publish

STATE = "state.json"  # written last into a checkpoint: step and what the run must agree on


def save_checkpoint(
    folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, facts: dict[str, Any]
) -> None:
    """Write `folder/step_XXXXXXXX`; the rename is the completion mark. Every rank calls this."""
    target = folder / f"step_{step:08d}"
    partial = folder / f".{target.name}.partial"
    if _is_first_rank():
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    _barrier()
    weights, moments = get_state_dict(model, optimizer)
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process: just what is meant
    save({"model": weights, "optimizer": moments}, checkpoint_id=partial, no_dist=not dist.is_initialized())
    if _is_first_rank():
        (partial / STATE).write_text(json.dumps({"step": step, **facts}, indent=2) + "\n")
        publish(partial, target)
    _barrier()


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Restore weights, teacher and optimizer in place.

    Raises:
        InputError: a file of the checkpoint is damaged or does not fit the model.
    """
    weights, moments = get_state_dict(model, optimizer)
    state: dict[str, Any] = {"model": weights, "optimizer": moments}
    try:
        load(state, checkpoint_id=path, no_dist=not dist.is_initialized())
    except (Exception, CheckpointException) as error:  # a damaged file surfaces as anything from EOFError on
        cause = next((failure[0] for failure in getattr(error, "failures", {}).values()), error)
        raise InputError(
            f"checkpoint {path} cannot be read ({type(cause).__name__}: {' '.join(str(cause).split())[:200]}); "
            "remove that folder to go on from the one before it"
        ) from error
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the highest step, or None."""
    found = sorted(path for path in folder.glob("step_*") if (path / STATE).is_file())
    return found[-1] if found else None


def read_state(path: Path) -> dict[str, Any]:
    """Step and facts of a checkpoint.

    Raises:
        InputError: its state file is damaged.
    """
    try:
        return json.loads((path / STATE).read_text())
    except ValueError as error:
        raise InputError(
            f"{path / STATE} is damaged ({error}); remove that folder to go on from the one before it"
        ) from error


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Remove all but the `keep` newest checkpoints."""
    for path in sorted(folder.glob("step_*"))[:-keep]:
        shutil.rmtree(path)


def _is_first_rank() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()
