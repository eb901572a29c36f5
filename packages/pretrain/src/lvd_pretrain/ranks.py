"""What ranks do together: reductions, agreements, gathering; a single process is its own world."""

from __future__ import annotations

from typing import Generic, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

Note = TypeVar("Note")


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


class LateFlag(Generic[Note]):
    """A yes or no of every step that the host reads one step later, so that it never waits for the step under way.

    Where all ranks hand in the same flag, all of them read it at the same step, and may act on it together.
    """

    def __init__(self) -> None:
        self.pending: tuple[Tensor, torch.cuda.Event | None, Note] | None = None

    def put(self, flag: Tensor, note: Note) -> Note | None:
        """Hand in this step's flag, a bool scalar.

        Args:
            flag: on the device.
            note: what will have to be known if the flag is set.

        Returns:
            The note of the step before if its flag was set.
        """
        before = self.settle()
        copy, copied = flag.to("cpu", non_blocking=flag.is_cuda), torch.cuda.Event() if flag.is_cuda else None
        if copied is not None:
            copied.record()
        self.pending = copy, copied, note
        return before

    def settle(self) -> Note | None:
        """The note handed in last if its flag is set and was not read before; this waits for the device."""
        if self.pending is None:
            return None
        (copy, copied, note), self.pending = self.pending, None
        if copied is not None:
            copied.synchronize()
        return note if copy.item() else None


class AnyRank:
    """Whether a flag is set on one rank at least, asked every step: all ranks get the same answer, of the step before.

    Args:
        device: of this rank; it is where ranks meet.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.late: LateFlag[bool] = LateFlag()

    def __call__(self, flag: bool) -> bool:
        """True if any rank said so a step ago; a single process is answered at once."""
        if world_size() == 1:
            return flag
        everyone = all_reduce_max(torch.full((), float(flag), device=self.device))  # filled there: no copy to wait for
        return self.late.put(everyone, True) or False
