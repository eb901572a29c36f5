"""What training ViT-S to g takes on 1, 8 and 64 GPUs, by the formulas of `pretrain RECIPE --plan GPUS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scaling_curation import show, size

from lvd_pretrain.flops import step_flops
from lvd_pretrain.plan import CORE_IMAGES, RATES, SHARE, Plan
from lvd_pretrain.recipes import build_config, find_recipe
from lvd_pretrain.rehearsal import Rehearsal, rehearse

RECIPES = {"vits14": 8, "vitb14": 16, "vitl14": 96, "vitg14": 256}  # recipe -> GPUs that its batch is meant for
WORLDS = (1, 8, 64)

Figures = Mapping[str, Mapping[str, Any]]


def rehearse_all() -> dict[str, dict[str, int]]:
    """A rehearsal of every recipe; half a minute of a core."""
    return {name: rehearse(build_config(find_recipe(name), []))._asdict() for name in RECIPES}


def plan_recipe(figures: Figures, name: str, world: int) -> Plan:
    """The plan that the command prints, from the rehearsal on record."""
    config = build_config(find_recipe(name), [])
    return Plan(config, world, Rehearsal(**figures["rehearsed"][name]), sum(step_flops(config).values()))


def render_steps(figures: Figures) -> list[str]:
    """A step of one GPU: memory on each number of GPUs, and what it asks of the rest of the machine."""
    lines = [
        "| recipe | images | TFLOP | a copy each: 1 GPU | 8, 64 GPUs | sharded: 8 GPUs | 64 GPUs |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in RECIPES:
        one, eight, many = (plan_recipe(figures, name, world) for world in WORLDS)
        memory = (one.replicated, eight.replicated, eight.sharded, many.sharded)
        images = one.config.optim.batch_size
        lines.append(f"| `{name}` | {images} | {one.flops / 1e12:.1f} | {' | '.join(map(size, memory))} |")
    return lines


def render_demands(figures: Figures) -> list[str]:
    """What keeps a GPU at half of its rate."""
    lines = [
        "| recipe, an H100 at 50 % | ms a step | images a second | cores to decode | MB read a second "
        "| GB sent a second, 8 GPUs: a copy each | sharded |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in RECIPES:
        plan = plan_recipe(figures, name, 8)
        seconds, demand = plan.seconds(RATES["H100"]), plan.demand(RATES["H100"])
        lines.append(
            f"| `{name}` | {1e3 * seconds:.0f} | {demand:,.0f} | {demand / CORE_IMAGES:.1f} "
            f"| {demand * figures['measured']['kilobytes']['value'] / 1e3:,.0f} | {plan.traffic / seconds / 1e9:,.0f} "
            f"| {plan.sharded_traffic / seconds / 1e9:,.0f} |"
        )
    return lines


def render_hours(figures: Figures) -> list[str]:
    """The whole of each recipe: as many images as its own GPUs see."""
    lines = [
        "| recipe | million images | A100 hours at 50 % | published (its share of the rate) "
        "| H100 hours at 50 % | days on 1 | on 8 | on 64 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, gpus in RECIPES.items():
        plan = plan_recipe(figures, name, gpus)
        steps, published = plan.config.optim.steps, figures["published"].get(name)
        hours = {card: gpus * steps * plan.seconds(rate) / 3600 for card, rate in RATES.items()}
        told = ""
        if published:
            share = SHARE * hours["A100"] / published["a100_hours"]
            told = f"{published['a100_hours']:,} ({share:.0%})"
        days = " | ".join(show(hours["H100"] / 24 / world) for world in WORLDS)
        images = gpus * plan.config.optim.batch_size * steps / 1e6
        lines.append(f"| `{name}` | {images:,.0f} | {hours['A100']:,.0f} | {told} | {hours['H100']:,.0f} | {days} |")
    return lines


def render_disk(figures: Figures) -> list[str]:
    """What a run writes."""
    lines = [
        "| recipe | backbone and heads | a checkpoint | kept, and the next | a model | models of a run |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in RECIPES:
        plan = plan_recipe(figures, name, 1)
        held, save, steps = plan.held, plan.config.save, plan.config.optim.steps
        models = -(-steps // save.every)
        cells = (size(plan.checkpoint), size((save.keep + 1) * plan.checkpoint), size(held.student))
        lines.append(
            f"| `{name}` | {held.backbone / 4e6:,.0f} M + {(held.student - held.backbone) / 4e6:,.0f} M "
            f"| {' | '.join(cells)} | {models} of them: {size(models * held.student)} |"
        )
    return lines


def render_check(figures: Figures) -> list[str]:
    """Rehearsed and measured, on the CPU."""
    lines = ["| ViT-S/14 on a CPU | rehearsed | measured | measured over rehearsed |", "|---|---:|---:|---:|"]
    for name, rehearsed in figures["rehearsed_then"].items():
        _, precision, batch = name.split("_")
        measured = figures["measured"][name]["value"]
        lines.append(
            f"| {precision}, {batch} images | {rehearsed:,.0f} MiB | {measured:,.0f} MiB | {measured / rehearsed:.2f} |"
        )
    return lines
