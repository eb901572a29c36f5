"""Several processes on one evaluation: who does what, and how the parts come together again, each exactly once.

Processes come from `accelerate launch` (or torchrun). Encoders are what costs, so their images are divided; whatever is
learned on top is learned from everything by every process alike, which is why any number of them gives the same result.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lvd_evaluate.errors import InputError

Part = TypeVar("Part")


@contextmanager
def together() -> Iterator[None]:
    """Join the other processes of this launch, if there are any, for as long as the block lasts.

    Backend and device are accelerate's choice: NCCL and one GPU each, gloo where there is none.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())
    yield
    dist.destroy_process_group()  # not after an error: the others are told by the launcher, and would not come here


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes and prints."""
    return rank() == 0


def wait() -> None:
    """Go on when every process has come here."""
    if dist.is_initialized():
        dist.barrier()


@contextmanager
def all_or_none() -> Iterator[None]:
    """What one process finds wrong with its part of the input, every process raises: none waits for it for ever.

    Raises:
        InputError: a process raised it inside the block; its own, else that of the first.
    """
    own: InputError | None = None
    try:
        yield
    except InputError as error:
        own = error
    told: list[Any] = [None if own is None else str(own)] * world_size()
    if dist.is_initialized():
        dist.all_gather_object(told, told[0])
    if own is not None:
        raise own
    others = [reason for reason in told if reason is not None]
    if others:
        raise InputError(others[0])


def my_cores() -> int:
    """Cores for each of this launch's processes on this machine, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def my_rows(count: int) -> range:
    """The rows of 0..count that this process takes: every world-size-th."""
    return range(rank(), count, world_size())


def gather_rows(parts: list[Part], count: int) -> list[Part]:
    """What every process made of its `my_rows(count)`, in the order of rows, each once; on each process."""
    if not dist.is_initialized():
        return parts
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, parts)
    return [found[row % world_size()][row // world_size()] for row in range(count)]


def gather_batch(part: Tensor, count: int) -> Tensor:
    """Rows [count, ...] on each process, from the rows [n, ...] that each computed for its `my_rows(count)`.

    Processes may hold unequal numbers of rows, none included; every process must know dtype and trailing shape.
    """
    if not dist.is_initialized():
        return part
    most = -(-count // world_size())
    padded = part.new_zeros(most, *part.shape[1:])
    padded[: len(part)] = part
    found = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(found, padded)
    return torch.stack(found, dim=1).flatten(0, 1)[:count]  # row r of process p is row r * world + p of all


def share(value: Part) -> Part:
    """What the first process holds, on each process."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
