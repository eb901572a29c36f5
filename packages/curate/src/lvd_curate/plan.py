"""`curate plan`: what a build will need, stage by stage, before it runs: rows, memory, disk and time.

Everything that can be measured is measured here and now: the listing is made, a sample of its images is screened and
embedded, a matrix product and a write to the work folder's disk are timed. The rest is arithmetic that each function
states: multiplications of the join and of k-means, bytes per row.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import psutil

from lvd_curate.catalogue import Catalogue
from lvd_curate.columns import EXCLUDE, POOL, SEEDS
from lvd_curate.config import BuildConfig
from lvd_curate.errors import InputError
from lvd_curate.executors import available_cores
from lvd_curate.pieces import count_cells
from lvd_curate.stages import cluster, embed, rebalance, retrieve, screen
from lvd_curate.steps import list_inputs, name_inputs
from lvd_curate.runner import Runner, allowed_bytes, open_runner

PROBES = 16  # cells per query: what the join takes unless its sample says otherwise
FLOAT16 = 2  # bytes
WRITE_BYTES = 64 * 10**6  # written to time the disk


class StageCost(NamedTuple):
    """What one stage is expected to need."""

    stage: str
    rows: int
    memory: float  # bytes, all processes together
    disk: float  # bytes that stay in the work folder or the dataset
    seconds: float


class Encoding(NamedTuple):
    """What a sample said of an encoder."""

    seconds: float  # per image and process
    dim: int


@dataclass(frozen=True)
class Measured:
    """What a sample of the user's own images said, and the machine."""

    counts: dict[str, dict[str, int]]  # role -> set -> files
    listing_seconds: float
    listing_bytes: float  # on disk, per file
    image_bytes: float  # mean
    row_bytes: float  # in memory, per file
    screened_bytes: float  # on disk, per file
    screen_seconds: float  # per image and process
    semantic: Encoding
    copies: Encoding | None
    product_rate: float  # multiplications and additions per second and process
    write_rate: float  # bytes per second
    process_bytes: float  # of a worker with its encoder

    def total(self, *roles: str) -> int:
        """Return how many files these roles have."""
        return sum(sum(self.counts[role].values()) for role in roles)


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
        product_rate=measure_products(),
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


def measure_products() -> float:
    """Time the matrix product that the join is made of, in one thread."""
    from lvd_curate.matching import choose_first_look
    import torch

    look = choose_first_look()
    block = torch.ones(2048, 512, dtype=look.dtype, device=look.device)
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


def estimate(config: BuildConfig, m: Measured, workers: int, allowed: int) -> list[StageCost]:
    """Reckon every stage from what was measured; an upper bound, as nothing is dropped on the way."""
    everything, own = m.total(POOL, SEEDS, EXCLUDE), m.total(POOL, SEEDS)
    pool, seeds = m.total(POOL), m.total(SEEDS)
    table = everything * m.row_bytes
    side_by_side = workers * m.process_bytes
    per_second = m.product_rate * workers
    kept = min(own, seeds * config.materialize.include_seeds + count_picks(config, m))
    costs = [
        StageCost("ingest", everything, 0, everything * m.listing_bytes, m.listing_seconds),
        StageCost(
            "screen", everything, side_by_side, everything * m.screened_bytes, everything * m.screen_seconds / workers
        ),
        embed_cost("embed", own, m.semantic, table + side_by_side, workers),
    ]
    if m.copies is not None:
        costs.append(embed_cost("embed-copies", everything, m.copies, table + side_by_side, workers))
        costs.append(join_cost("deduplicate", own, own, m.copies.dim, table, allowed, per_second))
        costs.append(join_cost("decontaminate", own, m.total(EXCLUDE), m.copies.dim, table, allowed, per_second))
    clusters = cluster.scale_clusters(config.cluster, pool)
    costs.append(
        kmeans_cost("cluster", pool, [clusters], m.semantic.dim, config.cluster.iterations, table, allowed, per_second)
    )
    costs.append(join_cost("retrieve", seeds, pool, m.semantic.dim, table, allowed, per_second))
    if config.rebalance.target_size is not None:
        levels = rebalance.scale_levels(config.rebalance, kept)
        passes = rebalance.ITERATIONS * (1 + config.rebalance.resampling)
        costs.append(kmeans_cost("rebalance", kept, levels, m.semantic.dim, passes, table, allowed, per_second))
        kept = min(kept, config.rebalance.target_size + seeds)
    written = kept * m.image_bytes
    costs.append(StageCost("materialize", kept, table + side_by_side, written, written / m.write_rate))
    return costs


def count_picks(config: BuildConfig, m: Measured) -> int:
    """Return how many pool images the seeds may bring at most: neighbours of each, and each set's capped clusters."""
    pool = m.total(POOL)
    clusters = cluster.scale_clusters(config.cluster, pool)
    total = 0
    for name, count in m.counts[SEEDS].items():
        total += retrieve.count_nominal(config.retrieve, name, count, pool, clusters)
    return min(pool, total)


def embed_cost(name: str, rows: int, encoding: Encoding, memory: float, workers: int) -> StageCost:
    """A forward pass per image; two bytes per dimension on disk."""
    return StageCost(name, rows, memory, rows * encoding.dim * FLOAT16, rows * encoding.seconds / workers)


def join_cost(
    name: str, queries: int, database: int, dim: int, table: float, allowed: int, per_second: float
) -> StageCost:
    """Every vector against all centroids, then each query against the cells it probes; vectors are laid out once more."""
    cells = count_cells(database) if database else 1
    products = 2 * dim * ((queries + database) * cells + queries * min(PROBES, cells) * database / cells)
    pages = database * dim * FLOAT16
    return StageCost(name, queries, table + min(allowed, pages), pages, products / per_second)


def kmeans_cost(
    name: str, rows: int, levels: list[int], dim: int, passes: int, table: float, allowed: int, per_second: float
) -> StageCost:
    """Lloyd steps on at most 256 points per centroid, then one assignment of all rows; level by level."""
    products, points = 0.0, rows
    for count in levels:
        products += 2 * dim * count * (passes * min(points, 256 * count) + points)
        points = count
    sample = min(allowed, 4 * dim * min(rows, 256 * levels[0]))
    return StageCost(name, rows, table + sample, rows * 4, products / per_second)


def show_plan(plan: Plan) -> str:
    """Lay a plan out as text."""
    m = plan.measured
    sets = [f"{role} {name}: {count:,} files" for role, named in m.counts.items() for name, count in named.items()]
    copies = f", {1 / m.copies.seconds:.0f} with the copy-detection encoder" if m.copies else ""
    lines = [
        *sets,
        f"measured on a sample: {m.image_bytes / 1e3:.0f} kB per image; per process and second {1 / m.screen_seconds:.0f} "
        f"images screened, {1 / m.semantic.seconds:.1f} embedded ({m.semantic.dim} dimensions){copies}",
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
