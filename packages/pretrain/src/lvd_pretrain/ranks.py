"""Reductions over the ranks of a launch; a single process is its own world."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of ranks in this launch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum over ranks; the argument is left as it was."""
    return _all_reduce(values, dist.ReduceOp.SUM)


def all_reduce_max(values: Tensor) -> Tensor:
    """Maximum over ranks; the argument is left as it was."""
    return _all_reduce(values, dist.ReduceOp.MAX)


def _all_reduce(values: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
    if world_size() == 1:
        return values
    result = values.detach().clone()
    dist.all_reduce(result, operation)
    return result
