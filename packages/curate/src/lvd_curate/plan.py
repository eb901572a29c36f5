"""`curate plan`: what a build will need, stage by stage, before it runs: rows, memory, disk and time.

Everything that can be measured is measured here and now: the listing is made, a sample of its images is screened and
embedded, a matrix product and a write to the work folder's disk are timed. The rest is arithmetic (`estimates.py`).
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import psutil

from lvd_curate.columns import EXCLUDE, POOL, ROLES, SEEDS
from lvd_curate.engine.catalogue import Catalogue
from lvd_curate.engine.executors import available_cores
from lvd_curate.engine.runner import Runner, allowed_bytes, open_runner
from lvd_curate.errors import InputError
from lvd_curate.estimates import FLOAT16, Encoding, Measured, StageCost, estimate
from lvd_curate.provenance import check_outside
from lvd_curate.recipes import BuildConfig
from lvd_curate.stages import embed, moderate, screen
from lvd_curate.steps import list_inputs, name_inputs

WRITE_BYTES = 64 * 10**6  # written to time the disk


@dataclass(frozen=True)
class Plan:
    """The costs of every stage, and what they were reckoned from."""

    measured: Measured
    costs: list[StageCost]
    workers: int
    allowed: int  # bytes


def plan_build(config: BuildConfig, work: Path, sample: int) -> Plan:
    """List the inputs of a recipe, measure a sample of them, and return what the build will need.

    Leaves nothing but the listing in `work`, which the build opens again. Raises InputError as the build would for
    inputs and encoders that cannot be used.
    """
    check_outside({role: getattr(config, role) for role in ROLES}, "the work folder", work)
    with open_runner(work, config.execution) as runner:
        measured = measure(config, runner, sample)
    workers = config.execution.workers or available_cores()
    allowed = allowed_bytes(config.execution)
    return Plan(measured, estimate(config, measured, workers, allowed), workers, allowed)


def measure(config: BuildConfig, runner: Runner, sample: int) -> Measured:
    """Measure a sample spread evenly over all inputs, in this process."""
    started = time.monotonic()
    listing = list_inputs(runner, name_inputs(config))
    listing_seconds = time.monotonic() - started
    files = Catalogue((listing,)).table(["role", "source"])
    rows = np.unique(np.linspace(0, len(files) - 1, min(sample, len(files))).astype(np.int64))
    chosen = Catalogue((listing,)).load(rows)
    started = time.monotonic()
    screened = screen.screen(chosen, config.screen)
    screen_seconds = (time.monotonic() - started) / len(chosen)
    usable = pl.concat([chosen, screened], how="horizontal").filter(pl.col("reason").is_null())
    if usable.is_empty():
        first = f"{chosen['path'][0]} is {screened['reason'][0]}"
        raise InputError(f"none of the {len(chosen)} sampled files is a usable image: {first}, and so on")
    encoder = config.embed.encoder
    assert encoder is not None
    copies = config.deduplicate.encoder
    count = files.group_by("role", "source").len()
    narrow = screened.drop("thumbnail").estimated_size() / len(screened)
    return Measured(
        counts={
            role: dict(count.filter(pl.col("role") == role).select("source", "len").sort("source").rows())
            for role in (POOL, SEEDS, EXCLUDE)
        },
        listing_seconds=listing_seconds,
        listing_bytes=sum(file.stat().st_size for file in listing.files()) / len(files),
        image_bytes=float(usable["bytes"].mean()),  # type: ignore[arg-type]
        row_bytes=narrow + files.estimated_size() / len(files),
        screened_bytes=screened.estimated_size() / len(screened),
        screen_seconds=screen_seconds,
        semantic=measure_encoder(encoder, usable, config),
        copies=measure_encoder(copies, usable, config) if copies else None,
        moderate_seconds=measure_moderation(usable, config),
        product_rate=measure_products(exact=False),
        exact_rate=measure_products(exact=True),
        write_rate=measure_writing(runner.store.folder),
        process_bytes=psutil.Process().memory_info().rss,
    )


def measure_encoder(spec: str, files: pl.DataFrame, config: BuildConfig) -> Encoding:
    """Time an encoder on one process and all sampled images, after a first batch that warms it up."""
    knobs = config.embed

    def run(files: pl.DataFrame) -> pl.DataFrame:
        return embed.embed(files, spec, knobs.batch_size, knobs.precision, config.execution.device)

    first = run(files.head(knobs.batch_size))
    vectors = first["embedding"].drop_nulls()
    if vectors.is_empty():
        raise InputError(f"the encoder {spec!r} gives no finite vector for any of {len(first)} sampled images")
    started = time.monotonic()
    run(files)
    return Encoding((time.monotonic() - started) / len(files), len(vectors[0]) // FLOAT16)


def measure_moderation(files: pl.DataFrame, config: BuildConfig) -> float | None:
    """Time the moderation models on all sampled images, after a few that warm them up; None without any."""
    knobs, device = config.moderate, config.execution.device
    if knobs.nsfw is None and knobs.faces is None:
        return None
    moderate.moderate(files.head(4), knobs, device)
    started = time.monotonic()
    moderate.moderate(files, knobs, device)
    return (time.monotonic() - started) / len(files)


def measure_products(*, exact: bool) -> float:
    """Time the matrix product that the join is made of, in one thread; or, exact, that of k-means, in float32."""
    import torch

    from lvd_curate.search.matching import choose_first_look

    look = choose_first_look()
    block = torch.ones(2048, 512, dtype=torch.float32 if exact else look.dtype, device=look.device)
    return rate_of(lambda: float((block @ block.T)[0, 0]), 2 * 2048 * 2048 * 512)


def measure_writing(folder: Path) -> float:
    """Time a write that reaches the disk."""
    file = folder / f".speed.{os.getpid()}"
    data = os.urandom(WRITE_BYTES)

    def write() -> None:
        with open(file, "wb") as stream:
            stream.write(data)
            os.fsync(stream.fileno())

    try:
        return rate_of(write, WRITE_BYTES)
    finally:
        file.unlink(missing_ok=True)


def rate_of(work: Callable[[], object], amount: float) -> float:
    """Return amount per second, the better of three runs."""
    best = 0.0
    for _ in range(3):
        started = time.monotonic()
        work()
        best = max(best, amount / max(1e-9, time.monotonic() - started))
    return best


def show_plan(plan: Plan) -> str:
    """Lay a plan out as text."""
    m = plan.measured
    sets = [f"{role} {name}: {count:,} files" for role, named in m.counts.items() for name, count in named.items()]
    copies = f", {1 / m.copies.seconds:.0f} with the copy-detection encoder" if m.copies else ""
    lines = [
        *sets,
        f"measured on a sample: {m.image_bytes / 1e3:.0f} kB per image; per process and second "
        f"{1 / m.screen_seconds:.0f} images screened, {1 / m.semantic.seconds:.1f} embedded "
        f"({m.semantic.dim} dimensions){copies}",
        f"{plan.workers} processes, {show_bytes(plan.allowed)} for joins and k-means",
        "",
        f"{'stage':14} {'rows':>15} {'memory':>10} {'disk':>10} {'time':>10}",
    ]
    for cost in plan.costs:
        amounts = f"{show_bytes(cost.memory):>10} {show_bytes(cost.disk):>10} {show_seconds(cost.seconds):>10}"
        lines.append(f"{cost.stage:14} {cost.rows:>15,} {amounts}")
    memory, disk = max(cost.memory for cost in plan.costs), sum(cost.disk for cost in plan.costs)
    seconds = show_seconds(sum(cost.seconds for cost in plan.costs))
    lines.append(f"{'together':14} {'':>15} {show_bytes(memory):>10} {show_bytes(disk):>10} {seconds:>10}")
    return "\n".join(lines)


def show_bytes(count: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("the last unit returns")


def show_seconds(seconds: float) -> str:
    """Write a time for people."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
