"""What ranks do together: reductions, agreements, gathering; a single process is its own world."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


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


@torch.no_grad()
def gather_weights(modules: nn.ModuleDict) -> dict[str, dict[str, Tensor]]:
    """State of each module with its shards put together, on the CPU. All ranks take part; the first one gets it.

    Tensors are gathered and moved one at a time: a GPU never holds a second copy of the model.
    """
    first = world_size() == 1 or dist.get_rank() == 0
    gathered: dict[str, dict[str, Tensor]] = {}
    for name, module in modules.items():
        gathered[name] = {}
        for key, tensor in module.state_dict().items():
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if first:
                gathered[name][key] = whole.cpu()
    return gathered


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is set on one rank at least: all ranks get the same answer."""
    return bool(all_reduce_max(torch.tensor(float(flag), device=device)))
