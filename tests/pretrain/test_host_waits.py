"""Between logging steps nothing of a training step makes the host wait for a GPU.

What would wait there is seen without one: operators that hand a value, or a shape made of values, to Python, and
constants that Python would copy to the device. They are recorded under the real step, on a CPU.
"""

import traceback

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lvd_pretrain.augment import Photometry
from lvd_pretrain.data import build_loader
from lvd_pretrain.method import SelfDistillation
from lvd_pretrain.optim import build_optimizer, clip_gradients, set_step_values
from lvd_pretrain.schedules import Schedules
from lvd_pretrain.sources import open_images
from lvd_pretrain.train import views_of
from lvd_pretrain.watch import Watch

WAITING = {  # on CUDA each of them ends in a synchronising copy
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::lift_fresh",  # torch.tensor(...), new_tensor: a constant from the host's pageable memory
    "aten::masked_select",
    "aten::nonzero",
    "aten::repeat_interleave.Tensor",
    "aten::unique_consecutive",
    "aten::_unique2",
}
INDEXING = {"aten::index.Tensor", "aten::index_put", "aten::index_put_"}  # by a bool tensor: a shape made of values


class Waits(TorchDispatchMode):
    """Records by name, and the line of ours it came from, whatever would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        indices = arguments[1] if function.name() in INDEXING else ()
        if function.name() in WAITING or any(index is not None and index.dtype == torch.bool for index in indices):
            ours = [frame.name for frame in traceback.extract_stack() if "lvd_pretrain" in frame.filename]
            self.seen.append(f"{function.name()} in {ours[-1] if ours else 'torch'}")
        return function(*arguments, **(keywords or {}))


def steps(config, batches):
    """What `pretrain` does of each batch between two logging steps."""
    device = torch.device("cpu")
    method = SelfDistillation(config).train()
    optimizer = build_optimizer(method.student, config.model.dims[1], config.optim)
    schedules, photometry, watch = Schedules(config, 4), Photometry(config.augment, device), Watch(config, device)
    photometry.selective = False  # as on a GPU
    method.observe = watch.observe
    for step, batch in enumerate(batches):
        values = schedules(step)
        set_step_values(optimizer, values)
        with Waits() as waits:
            with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
                losses = method(views_of(batch.to(device), photometry), values.temperature)
            torch.stack(list(losses.values())).sum().backward()
            norms = clip_gradients(method.student, config.optim.clip)
            watch.check(losses, norms, step, logging=False)
            optimizer.step()
            method.update_teacher(values.momentum)
            optimizer.zero_grad()
        yield waits.seen


@pytest.mark.parametrize("fused", ["true", "false"])
@pytest.mark.parametrize("centering", ["sinkhorn_knopp", "ema"])
def test_a_step_waits_for_nothing_but_the_flag_of_the_step_before(fused, centering, tiny):
    words = (f"loss.fused={fused}", f"teacher.centering={centering}", "model.drop_path=0.3", "precision=bf16")
    config = tiny("optim.steps=3", "model.registers=1", *words)
    seen = list(steps(config, build_loader(open_images(config.data), config, 0, 0, 1)))
    late = ["aten::_local_scalar_dense in settle"]
    assert seen == [[], late, late]


def test_what_waits_is_seen():
    x = torch.arange(4.0)
    with Waits() as waits:
        x[x > 1], x.nonzero(), float(x.sum()), x.new_tensor([1])
    assert [entry.split(" ")[0] for entry in waits.seen] == [
        "aten::index.Tensor",
        "aten::nonzero",
        "aten::_local_scalar_dense",
        "aten::lift_fresh",
    ]
