"""What curating 1M to 1.2B images takes, by the formulas of `curate plan` at the rates of scaling.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lvd_curate.config import DeduplicateConfig, EmbedConfig
from lvd_curate.estimates import Encoding, Measured, StageCost, estimate
from lvd_curate.recipes import BuildConfig
from lvd_pretrain.plan import RATES

POOLS = {"1M": 10**6, "10M": 10**7, "100M": 10**8, "1.2B": 12 * 10**8}
ON_GPUS = ("embed", "embed-copies")
CORES, GPUS = 64, 8
BOUNDS = {
    "ingest": "listing; names of files, one process",
    "screen": "decoding, per core; then reading: every byte of the pool once",
    "embed": "the encoder's products; then decoding for it, and every byte of the pool again",
    "embed-copies": "the same with the smaller encoder",
    "deduplicate": "thumbnails and hashes, per image; vectors against cells, per image times the root of all",
    "decontaminate": "the same against the excluded sets",
    "cluster": "Lloyd steps on a sample, then every image against all centroids; 100,000 of them from 7.5M images on",
    "retrieve": "laying out the pool's vectors; the seeds' own search is small",
    "materialize": "reading what is kept from where it lies, and writing it",
}


def plan_pool(figures: Mapping[str, Mapping[str, Any]], pool: int) -> list[StageCost]:
    """Costs of every stage on one core, encoders on one H100."""
    measured, assumed = figures["measured"], figures["assumed"]

    def encoder(name: str) -> Encoding:
        flops = assumed[name]["value"]
        return Encoding(flops / (RATES["H100"] * assumed["gpu_share"]["value"]), assumed[name]["dim"])

    counts = {"pool": pool, "seeds": round(pool * assumed["seeds"]["value"])}
    counts["exclude"] = round(pool * assumed["excluded"]["value"])
    rates = Measured(
        counts={role: {role: count} for role, count in counts.items()},
        listing_seconds=measured["list_seconds"]["value"] * pool / 1e6,
        listing_bytes=assumed["listing_bytes"]["value"],
        image_bytes=assumed["image_bytes"]["value"],
        row_bytes=assumed["row_bytes"]["value"],
        screened_bytes=assumed["screened_bytes"]["value"],
        screen_seconds=measured["screen_seconds"]["value"] / 1e5,
        semantic=encoder("semantic_flops"),
        copies=encoder("copy_flops"),
        moderate_seconds=None,
        product_rate=measured["join_rate"]["value"] * 1e9,
        exact_rate=measured["exact_rate"]["value"] * 1e9,
        write_rate=assumed["write_rate"]["value"],
        process_bytes=assumed["process_bytes"]["value"],
    )
    recipe = BuildConfig(
        pool={"pool": "pool"},
        seeds={"seeds": "seeds"},
        embed=EmbedConfig(encoder="ViT-L/14"),
        deduplicate=DeduplicateConfig(encoder="torchscript:SSCD"),
    )
    return estimate(recipe, rates, 1, int(assumed["max_ram"]["value"]))


def on_a_machine(cost: StageCost) -> float:
    """Hours of a stage on 64 cores and 8 GPUs: listing and writing are one stream each."""
    share = GPUS if cost.stage in ON_GPUS else 1 if cost.stage in ("ingest", "materialize") else CORES
    return cost.seconds / 3600 / share


def render_curation(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Tables of hours, memory and disk."""
    plans = {name: plan_pool(figures, pool) for name, pool in POOLS.items()}
    rows = list(zip(*plans.values(), strict=True))
    names = " | ".join(plans)
    lines = [f"| hours of a core; of an H100 (†) | {names} | bound |", f"|---|{'---:|' * len(plans)}---|"]
    for costs in rows:
        stage = costs[0].stage
        mark = " †" if stage in ON_GPUS else ""
        hours = " | ".join(show(cost.seconds / 3600) for cost in costs)
        lines.append(f"| {stage}{mark} | {hours} | {BOUNDS[stage]} |")
    cores = [sum(cost.seconds for cost in plan if cost.stage not in ON_GPUS) / 3600 for plan in plans.values()]
    gpus = [sum(cost.seconds for cost in plan if cost.stage in ON_GPUS) / 3600 for plan in plans.values()]
    whole = [sum(map(on_a_machine, plan)) for plan in plans.values()]
    lines.append(f"| **cores together** | {' | '.join(map(show, cores))} | |")
    lines.append(f"| **GPUs together** † | {' | '.join(map(show, gpus))} | |")
    lines.append(f"| **hours on {CORES} cores and {GPUS} H100** | {' | '.join(map(show, whole))} | stage after stage |")
    lines += ["", f"| bytes | {names} | |", f"|---|{'---:|' * len(plans)}---|"]
    bytes_read = [pool * figures["assumed"]["image_bytes"]["value"] for pool in POOLS.values()]
    reading = [each * 3 / figures["assumed"]["write_rate"]["value"] / 3600 for each in bytes_read]
    memory = [max(cost.memory for cost in plan) for plan in plans.values()]
    disk = [sum(cost.disk for cost in plan if cost.stage != "materialize") for plan in plans.values()]
    written = [plan[-1].disk for plan in plans.values()]
    lines.append(f"| memory of the machine that runs the command, one worker | {' | '.join(map(size, memory))} | |")
    lines.append(f"| `OUT.work` on disk | {' | '.join(map(size, disk))} | |")
    lines.append(f"| dataset, at most | {' | '.join(map(size, written))} | all picks distinct |")
    lines.append(f"| pool | {' | '.join(map(size, bytes_read))} | read three times |")
    lines.append(f"| hours of reading at 1 GB/s | {' | '.join(map(show, reading))} | beside the hours above |")
    return lines


def show(hours: float) -> str:
    """Hours with two digits that mean something."""
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"


def size(count: float) -> str:
    """Bytes for people."""
    return (
        f"{count / 1e12:,.1f} TB"
        if count >= 1e12
        else f"{count / 1e9:,.0f} GB"
        if count >= 1e10
        else f"{count / 1e9:.1f} GB"
    )
