"""Checkpoints to resume from: whole or absent, found by themselves, opened on any number of ranks.

A checkpoint holds weights, teacher, optimizer and step. There is no generator state in it: every random draw of a run
is a function of the seed and the step.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from lvd_pretrain.checkpoint_reader import CheckpointPlanner, CheckpointReader
from lvd_pretrain.errors import InputError
from lvd_pretrain.publish import PARTIAL, publish

STATE = "state.json"  # written last into a checkpoint: step and what the run must agree on


def save_checkpoint(
    folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, facts: dict[str, Any]
) -> None:
    """Write `folder/step_XXXXXXXX`; the rename is the completion mark. Every rank calls this."""
    target = folder / f"step_{step:08d}"
    partial = folder / f".{target.name}{PARTIAL}"
    if _is_first_rank():
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    _barrier()
    weights, moments = get_state_dict(model, optimizer)
    with _hushed():
        save({"model": weights, "optimizer": moments}, checkpoint_id=partial, no_dist=not dist.is_initialized())
    if _is_first_rank():
        files = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
        (partial / STATE).write_text(json.dumps({"step": step, **facts, "files": files}, indent=2) + "\n")
        publish(partial, target)
    _barrier()


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Restore weights, teacher and optimizer in place; nothing that the folder holds is run.

    Raises:
        InputError: a file of the checkpoint is damaged, would run code, or does not fit the model.
    """
    weights, moments = get_state_dict(model, optimizer)
    state: dict[str, Any] = {"model": weights, "optimizer": moments}
    alone = not dist.is_initialized()
    try:
        with _hushed():
            load(state, storage_reader=CheckpointReader(path), planner=CheckpointPlanner(), no_dist=alone)
    except (Exception, CheckpointException) as error:  # a damaged file surfaces as anything from EOFError on
        cause = next((failure[0] for failure in getattr(error, "failures", {}).values()), error)
        raise InputError(
            f"checkpoint {path} cannot be read ({type(cause).__name__}: {' '.join(str(cause).split())[:200]}); "
            "remove that folder to go on from the one before it"
        ) from error
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])


def newest_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint with the highest step, or None; damaged ones are passed over with a line. Every rank calls.

    The first rank looks and tells the others: what they see of a shared disk may lag behind.

    Raises:
        InputError: there are checkpoints, and all are damaged: nothing starts from the first step in their place.
    """
    found: list[tuple[Path | None, int]] = [_newest_whole(folder) if _is_first_rank() else (None, 0)]
    if dist.is_initialized():
        dist.broadcast_object_list(found)
    newest, damaged = found[0]
    if newest is None and damaged:
        raise InputError(
            f"{folder}: no checkpoint is whole, {damaged} are damaged; bring one back, or move that folder away to "
            "train from the first step, or give another out="
        )
    return newest


def _newest_whole(folder: Path) -> tuple[Path | None, int]:
    """The newest whole one, and how many damaged ones are newer."""
    damaged = 0
    for path in sorted(folder.glob("step_*"), reverse=True):
        damage = find_damage(path)
        if not damage:
            return path, damaged
        logging.getLogger(__name__).warning("passing over %s: %s", path, damage)
        damaged += 1
    return None, damaged


def find_damage(path: Path) -> str:
    """What is missing from a checkpoint folder, in words; empty for a whole one.

    Every file is compared with the size it had when the checkpoint was published: a copy cut short, a full disk or a
    removal that was interrupted shows without opening gigabytes.
    """
    try:
        files = dict(read_state(path)["files"])
        int(read_state(path)["step"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"{STATE} cannot be read ({type(error).__name__})"
    for name, size in files.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size:,} of {size:,} bytes"
    return ""


def read_state(path: Path) -> dict[str, Any]:
    """Step and facts of a checkpoint, and the size of each of its files."""
    state: dict[str, Any] = json.loads((path / STATE).read_text())
    return state


def prune_checkpoints(folder: Path, keep: int, keep_every: int = 0) -> None:
    """Remove checkpoints, damaged ones first of all.

    Args:
        folder: of the checkpoints.
        keep: how many of the newest whole ones stay.
        keep_every: whole ones at multiples of so many steps stay, too; 0 for none.
    """
    whole = [path for path in sorted(folder.glob("step_*")) if not find_damage(path)]
    kept = set(whole[-keep:])
    if keep_every:
        kept |= {path for path in whole if read_state(path)["step"] % keep_every == 0}
    for path in set(folder.glob("step_*")) - kept:
        shutil.rmtree(path)


@contextmanager
def _hushed() -> Iterator[None]:
    """PyTorch warns of the single process that is meant, and logs tracebacks (by no logger of its own) of one line."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _is_first_rank() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()
