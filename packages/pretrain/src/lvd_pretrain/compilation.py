"""`torch.compile` for the blocks of student and teacher, where nearly all of the time goes.

A block is compiled as one function of static shapes, and all blocks share the machine code of the first: any depth
costs the same. Modules and parameters keep their names, so checkpoints do not know of it. Stochastic depth needs no
break: its rows are drawn by the same generator, in the same order, as without compiling. Breaks are where the packed
kernels of attention.py are called and, under FSDP2, where weights are gathered: at each attention and feed-forward.
"""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch
from torch import nn

from lvd_pretrain.errors import InputError
from lvd_pretrain.vit import Block


def compile_blocks(method: nn.Module, device: torch.device) -> None:
    """Compile every block below `method` when it first runs. Comes before sharding, which hooks into what it finds.

    Raises:
        InputError: no compiler for this device.
    """
    check_compiler(device)
    for module in method.modules():
        if isinstance(module, Block):
            module.compile_branches()


def check_compiler(device: torch.device) -> None:
    """Whether there is what torch.compile turns its graphs into machine code with.

    Raises:
        InputError: no C++ compiler, or, for a GPU, no Triton.
    """
    compilers = [os.environ.get("CXX"), "g++", "clang++", "cl"]
    if not any(shutil.which(name) for name in compilers if name):
        raise InputError("model.compile=true needs a C++ compiler (g++), and there is none on PATH")
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise InputError("model.compile=true needs Triton on a GPU: pip install triton")
