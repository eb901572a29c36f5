"""`pretrain RECIPE --plan GPUS`: memory, disk and time of a run before it runs, each from the recipe's own shapes.

Memory is that of a rehearsed step (rehearsal.py); time is arithmetic over the matrix products (flops.py), at half of
the GPU's rate. Nothing of it is a measurement on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.flops import crop_lists, recomputed_flops, step_flops
from lvd_pretrain.rehearsal import FLOAT32, Rehearsal, rehearse

RATES = {"A100": 312e12, "H100": 989e12}  # bf16 products a second, dense, of NVIDIA's data sheets (H200: as H100)
SHARE = 0.5  # of that rate that steps reach: an aim, what the released code reached was 0.31 to 0.38 on A100
CORE_IMAGES = 322  # decoded and cropped per second and core: benchmarks/pretrain/data_path.py, JPEGs of 64 kB
HALF = 2  # bytes of bf16


@dataclass(frozen=True)
class Plan:
    """A run on `world` GPUs, one process each."""

    config: PretrainConfig
    world: int
    held: Rehearsal
    flops: float  # of a GPU's step

    @property
    def states(self) -> int:
        """Weights, gradients, AdamW's two averages, teacher; bytes."""
        return 4 * self.held.student + self.held.frozen

    @property
    def replicated(self) -> int:
        """Bytes on each GPU when each holds a copy of everything; several keep buckets of gradients beside them."""
        buckets = self.held.student if self.world > 1 else 0
        settled = 3 * self.held.student + self.held.frozen
        return max(settled + self.held.activations, self.states) + buckets

    @property
    def sharded(self) -> int:
        """Bytes on each GPU under FSDP2 as launch.py sets it up.

        Its share of the states; what is gathered all through the step, in float32; two units, this and the next, in
        the precision of the products, and the gradient of one on its way. The heads' gradients are in `activations`.
        """
        unit = HALF if self.config.precision == "bf16" else FLOAT32
        gathered = self.held.outside + self.held.unit // FLOAT32 * (2 * unit + FLOAT32)
        return self.states // self.world + gathered + self.held.activations

    @property
    def checkpoint(self) -> int:
        """Bytes of one, whatever the number of GPUs: weights, averages, teacher."""
        return 3 * self.held.student + self.held.frozen

    @property
    def traffic(self) -> float:
        """Bytes that a GPU sends in a step: replicated, gradients once around the ring and back."""
        return 2 * self.held.student * (self.world - 1) / self.world

    @property
    def sharded_traffic(self) -> float:
        """Bytes that a GPU sends in a step under FSDP2: its shards to all others, and gradients to whom they belong.

        Blocks go in the precision of the products, the student's twice (again for the backward pass), the teacher's
        once; what lies outside of them, and gradients, in float32.
        """
        inside = self.held.student + self.held.frozen - self.held.outside
        passes = (2 * self.held.student + self.held.frozen) / (self.held.student + self.held.frozen)
        half = HALF / FLOAT32 if self.config.precision == "bf16" else 1.0
        gathered = half * passes * inside + self.held.outside
        return (gathered + self.held.student) * (self.world - 1) / self.world

    @property
    def tokens(self) -> int:
        """Of a GPU's step, all crops."""
        large, small = crop_lists(self.config)
        return sum(samples * length for samples, length in [*large, *small])

    def seconds(self, rate: float, share: float = SHARE) -> float:
        """Of a step, at that share of a GPU's rate, what checkpointing computes again included."""
        return (self.flops + recomputed_flops(self.config)) / (rate * share)

    def demand(self, rate: float, share: float = SHARE) -> float:
        """Images that a GPU takes in a second."""
        return self.config.optim.batch_size / self.seconds(rate, share)


def plan_run(config: PretrainConfig, world: int) -> Plan:
    """What a recipe will need on `world` GPUs; seconds of a core, no data.

    Raises:
        InputError: the recipe's teacher of distillation cannot be opened.
    """
    return Plan(config, world, rehearse(config), sum(step_flops(config).values()))


def show_plan(plan: Plan) -> str:
    """A plan as text of at most 100 columns."""
    config, held = plan.config, plan.held
    batch, steps = config.optim.batch_size, config.optim.steps
    again = recomputed_flops(config)
    lines = [
        f"backbone of {held.backbone // FLOAT32 / 1e6:,.1f} million parameters, "
        f"{(held.student - held.backbone) // FLOAT32 / 1e6:,.1f} million in heads",
        f"{plan.world} GPUs x {batch} images = a batch of {plan.world * batch:,}; {steps:,} steps see "
        f"{plan.world * batch * steps / 1e6:,.1f} million images",
        f"a GPU's step: {plan.tokens:,} tokens, {plan.flops / 1e12:,.2f} TFLOP of matrix products"
        + (f", {again / 1e12:,.2f} more for checkpointing" if again else ""),
        "",
        f"memory of a GPU, a copy each: {gigabytes(plan.replicated)}, {gigabytes(plan.states)} of it weights, "
        "gradients, averages",
    ]
    if plan.world > 1:
        lines += [
            f"memory of a GPU, sharded (FSDP2): {gigabytes(plan.sharded)}",
            f"a GPU sends {gigabytes(plan.traffic)} a step, a copy each; {gigabytes(plan.sharded_traffic)} sharded",
        ]
    lines += [
        "beside it: the CUDA context, kernels' workspaces and fragments; on a CPU these were 9 to 18 %",
        f"disk: {gigabytes(plan.checkpoint)} a checkpoint, {config.save.keep} are kept; "
        f"{gigabytes(held.student)} a model, all are kept",
        "",
        f"{'at ' + format(SHARE, '.0%') + ' of':10} {'TFLOP/s':>8} {'ms a step':>10} {'images/s a GPU':>15} "
        f"{'cores a GPU':>12} {'hours':>9}",
    ]
    for name, rate in RATES.items():
        demand = plan.demand(rate)
        lines.append(
            f"{name:10} {rate / 1e12:8.0f} {1e3 * plan.seconds(rate):10.1f} {demand:15.0f} "
            f"{demand / CORE_IMAGES:12.1f} {plan.seconds(rate) * steps / 3600:9.1f}"
        )
    return "\n".join(lines)


def gigabytes(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.2f} GB"
