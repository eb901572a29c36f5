"""A training step on tensors without data: the memory it takes, before there is a GPU to try it on.

The step is the method's own, forward and backward, at the recipe's sizes; tensors have shapes and no numbers (torch's
FakeTensorMode), and every storage is counted from its first use until it is freed. The kernels are those of a CPU:
a GPU keeps the same tensors, but for what compiled blocks fuse.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.distillation import build_method
from lvd_pretrain.launch import is_unit
from lvd_pretrain.masks import mask_counts
from lvd_pretrain.method import Views
from lvd_pretrain.vit import Block

FLOAT32 = 4  # bytes


class Rehearsal(NamedTuple):
    """What one process holds; bytes, float32 weights."""

    backbone: int  # the student's, without heads
    student: int  # weights that are trained, heads included
    frozen: int  # weights of the teacher, and of the average where that is another model
    outside: int  # of both: what lies outside of attentions and feed-forwards, and is gathered all through a step
    unit: int  # the largest attention or feed-forward
    activations: int  # beside weights, at the peak: activations, and the gradients there are by then


class Held(TorchDispatchMode):
    """Bytes of all storages that operations made and that are still alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._alive:
            self._alive.add(key)
            self.bytes += size
            self.peak = max(self.peak, self.bytes)
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._alive.remove(key)
        self.bytes -= size


def rehearse(config: PretrainConfig) -> Rehearsal:
    """Run one step of a recipe without data and count.

    Raises:
        InputError: the recipe's teacher of distillation cannot be opened.
    """
    config = replace(config, model=replace(config.model, attention="sdpa"))  # what a recipe names may need a GPU
    with torch.device("meta"):  # weights are drawn in no time
        method = build_method(config).train()
    for block in (module for module in method.student.modules() if isinstance(module, Block)):
        block.checkpointing = config.optim.activation_checkpointing
    units = [size_of(part) for name, part in method.named_modules() if is_unit(name)]
    student, everything = size_of(method.student), size_of(method)
    with FakeTensorMode(allow_non_fake_inputs=True), Held() as held:
        method.to_empty(device="cpu")
        views = blank_views(config)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.precision == "bf16"):
            losses = method(views, config.teacher.temperature[0])
        torch.stack(list(losses.values())).sum().backward()
    return Rehearsal(
        backbone=size_of(method.student["backbone"]),
        student=student,
        frozen=everything - student,
        outside=everything - sum(units),
        unit=max(units),
        activations=held.peak - everything,
    )


def size_of(module: nn.Module) -> int:
    """Bytes of its parameters in float32."""
    return FLOAT32 * sum(parameter.numel() for parameter in module.parameters())


def blank_views(config: PretrainConfig) -> Views:
    """A batch of the recipe's shapes."""
    batch, crops = config.optim.batch_size, config.crops
    patches = (crops.global_size // config.model.patch_size) ** 2
    masked = sum(mask_counts(2 * batch, patches, config.masks.probability, config.masks.ratio))
    return Views(
        global_crops=torch.zeros(2 * batch, 3, crops.global_size, crops.global_size),
        local_crops=torch.zeros(crops.local_number * batch, 3, crops.local_size, crops.local_size),
        masks=torch.zeros(2 * batch, patches, dtype=torch.bool),
        masked=torch.zeros(masked, dtype=torch.int64),
        masked_weights=torch.zeros(masked),
    )
