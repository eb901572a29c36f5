"""From what the launcher was asked for to the Accelerator and the model that do it: one process, DDP or FSDP2.

Launchers and Accelerate fall back in silence (two independent trainings, DDP instead of sharding), so what runs is
compared with what was asked, before and after the model is prepared.
"""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator, PartialState
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    DynamoBackend,
    FullyShardedDataParallelPlugin,
)
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.errors import InputError
from lvd_pretrain.trackers import tracker_names


def build_accelerator(config: PretrainConfig) -> Accelerator:
    """An Accelerator that runs what the launcher was asked for.

    Raises:
        InputError: the launch would silently train several copies, or asks for what does not work.
    """
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    plugin = None
    if sharded:
        plugin = sharding_plugin(asked)
        if os.environ.get("ACCELERATE_USE_CPU", "false").lower() == "true" or not torch.accelerator.is_available():
            # Accelerate shards over kinds of GPU only; gloo ranks on CPUs are as good, once they bear such a name.
            PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU
    accelerator = Accelerator(
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        fsdp_plugin=plugin,
        log_with=tracker_names(config.trackers) or None,
        project_dir=config.out,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if asked != accelerator.num_processes:
        raise InputError(
            f"the launcher started {asked} processes, but each would train alone: on CPU launch with "
            f"ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes {asked}"
        )
    if sharded and accelerator.distributed_type != DistributedType.FSDP:
        raise InputError(f"FSDP was asked for, but Accelerate runs {accelerator.distributed_type.value} here")
    if accelerator.gradient_accumulation_steps != 1:
        raise InputError("gradient accumulation was asked for, and this version does not accumulate: launch without it")
    if accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
        raise InputError("the launch sets dynamo_backend: launch without it and set model.compile=true in the recipe")
    set_matrix_precision(accelerator.device, config.precision)
    return accelerator


def set_matrix_precision(device: torch.device, precision: str) -> None:
    """Under bf16 let products of float32 matrices round their factors to TF32 on a GPU.

    These are the logits and the losses' own products; sums stay float32. The released code rounds the logits, to fp16:
    a cosine near 1 is off by up to 5e-4 there. A CPU rounds to bf16, in the losses alone (`scores.product_precision`).
    """
    rounds = device.type == "cuda" and precision == "bf16"
    torch.set_float32_matmul_precision("high" if rounds else "highest")


def sharding_plugin(world: int) -> FullyShardedDataParallelPlugin:
    """FSDP2 as the launcher's environment describes it, the root's parameters in float32.

    Raises:
        InputError: a single process, FSDP1, or an option that does not work with this model.
    """
    if world == 1:
        raise InputError("FSDP was asked for, but one process has nothing to shard: launch without it")
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise InputError("FSDP1 was asked for, and only FSDP2 is supported: launch with --fsdp_version 2")
    unusable = {
        "FSDP_CPU_RAM_EFFICIENT_LOADING": (
            "--fsdp_cpu_ram_efficient_loading false",
            "it breaks on parameters outside of blocks such as cls_token",
        ),
        "FSDP_ACTIVATION_CHECKPOINTING": (
            "--fsdp_activation_checkpointing false",
            "set optim.activation_checkpointing=true in the recipe instead",
        ),
        "FSDP_OFFLOAD_PARAMS": ("--fsdp_offload_params false", "the teacher's average is taken where the shards lie"),
    }
    for name, (flag, why) in unusable.items():
        if os.environ.get(name, "false").lower() == "true":
            raise InputError(f"the launch sets {name.lower()}: launch with {flag} ({why})")
    return FullyShardedDataParallelPlugin(
        fsdp_version=2, mixed_precision_policy=MixedPrecisionPolicy(), auto_wrap_policy="NO_WRAP"
    )


def shard_blocks(accelerator: Accelerator, method: nn.Module, precision: str) -> None:
    """Under FSDP2 make every attention and feed-forward of student and teacher a sharded unit; else do nothing.

    Weights are gathered in `precision`, gradients reduced in float32 onto float32 shards. Everything else (tokens,
    norms, heads) stays for `accelerator.prepare`, which shards it with the root, in float32: exactly the weights that
    autocast would round are rounded, so that sharding changes no number.
    """
    plugin = accelerator.state.fsdp_plugin if accelerator.distributed_type == DistributedType.FSDP else None
    if plugin is None:
        return
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if precision == "bf16" else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,  # autocast casts where it should
    )
    for name, module in method.named_modules():
        if is_unit(name):
            fully_shard(module, mp_policy=policy, reshard_after_forward=plugin.reshard_after_forward)


def is_unit(name: str) -> bool:
    """Whether the module of this name is sharded and gathered by itself: attentions and feed-forwards of blocks."""
    return name.endswith((".attn", ".mlp")) and ".blocks." in name


def prepare(
    accelerator: Accelerator, method: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[nn.Module, AcceleratedOptimizer]:
    """`accelerator.prepare`, then a look at what came of it.

    Under FSDP2 Accelerate finds the optimizer's parameters again by address, and shards without elements (more ranks
    than rows) share one: they are found again by name here.

    Raises:
        RuntimeError: Accelerate prepared another kind of model than its own type says.
    """
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    groups = [[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    model, prepared = accelerator.prepare(method, optimizer)
    kind = accelerator.distributed_type
    wanted: dict[DistributedType, type] = {DistributedType.FSDP: FSDPModule, DistributedType.NO: type(method)}
    if not (isinstance(model, nn.Module) and isinstance(model, wanted.get(kind, DistributedDataParallel))):
        raise RuntimeError(f"Accelerate says {kind.value} and prepared a {type(model).__name__}")
    parameters = dict(method.named_parameters())
    for group, members in zip(prepared.param_groups, groups, strict=True):
        group["params"] = [parameters[name] for name in members]
    return model, prepared
