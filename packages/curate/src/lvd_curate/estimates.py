"""How much a build will need, reckoned from what a sample said: rows, memory, disk and time of every stage.

Each function states its arithmetic: multiplications of the join and of k-means, bytes per row. Nothing is dropped on
the way here, so these are upper bounds.
"""

from dataclasses import dataclass
from typing import NamedTuple

from lvd_curate.columns import EXCLUDE, POOL, SEEDS
from lvd_curate.recipes import BuildConfig
from lvd_curate.search.kmeans import count_fitting
from lvd_curate.search.pieces import count_cells
from lvd_curate.stages import cluster, rebalance, retrieve

PROBES = 8  # cells per query: what the join takes unless its sample says otherwise
FLOAT16 = 2  # bytes
MODERATED_BYTES = 100  # per image: its id, score and faces
HASH_BYTES = 48  # of the index, per image: two tables, in files that processes map and share
# Measured on one core of an Intel Xeon (docs/results.md): seconds per image, of the second at a million images, by
# whose 0.11th power it grows from 100,000 to a million; seconds per vector that is sorted into cells and compared; the
# share of the rate of float32 products that Lloyd steps reach at 128 dimensions, more at more.
CLOSER_LOOK, VIEW_SEARCHES, VIEW_GROWTH = 0.0017, 0.0015, 0.11
JOIN_ROW = 9e-5
LLOYD_SHARE = 0.45
TABLES = 6  # as large as that of all files, held side by side: ids stand in each (the same page, peaks from 100,000 on)


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
    moderate_seconds: float | None  # per image and process
    product_rate: float  # multiplications and additions per second and process, in the precision of the join
    exact_rate: float  # likewise in float32, as k-means has it
    write_rate: float  # bytes per second
    process_bytes: float  # of a worker with its encoder

    def total(self, *roles: str) -> int:
        """Return how many files these roles have."""
        return sum(sum(self.counts[role].values()) for role in roles)


def estimate(config: BuildConfig, m: Measured, workers: int, allowed: int) -> list[StageCost]:
    """Reckon every stage from what was measured; an upper bound, as nothing is dropped on the way."""
    everything, own = m.total(POOL, SEEDS, EXCLUDE), m.total(POOL, SEEDS)
    pool, seeds = m.total(POOL), m.total(SEEDS)
    table = everything * m.row_bytes * TABLES + (workers + 1) * m.process_bytes
    lloyd = m.exact_rate * workers * LLOYD_SHARE
    kept = min(own, seeds * config.materialize.include_seeds + count_picks(config, m))
    costs = [
        StageCost("ingest", everything, 0, everything * m.listing_bytes, m.listing_seconds),
        StageCost("screen", everything, table, everything * m.screened_bytes, everything * m.screen_seconds / workers),
        embed_cost("embed", own, m.semantic, table, workers),
    ]
    if m.moderate_seconds is not None:
        seconds = own * m.moderate_seconds / workers
        costs.insert(2, StageCost("moderate", own, table, own * MODERATED_BYTES, seconds))
    if m.copies is not None:
        costs.append(embed_cost("embed-copies", everything, m.copies, table, workers))
    references = m.total(EXCLUDE)
    for name, queries, database in (("deduplicate", own, own), ("decontaminate", own, references)):
        cost = hash_cost(name, queries, database, table, workers)
        if m.copies is not None:
            join = join_cost(name, queries, database, m.copies.dim, table, allowed, m.product_rate, workers)
            memory = max(cost.memory, join.memory)
            cost = cost._replace(memory=memory, disk=join.disk, seconds=cost.seconds + join.seconds)
        costs.append(cost)
    clusters = cluster.scale_clusters(config.cluster, pool)
    costs.append(kmeans_cost("cluster", pool, [clusters], m.semantic.dim, config.cluster.iterations, table, lloyd))
    costs.append(join_cost("retrieve", seeds, pool, m.semantic.dim, table, allowed, m.product_rate, workers))
    if config.rebalance.target_size is not None:
        levels = rebalance.scale_levels(config.rebalance, kept)
        passes = rebalance.ITERATIONS * (1 + config.rebalance.resampling)
        costs.append(kmeans_cost("rebalance", kept, levels, m.semantic.dim, passes, table, lloyd))
        kept = min(kept, config.rebalance.target_size + seeds)
    written = kept * m.image_bytes
    costs.append(StageCost("materialize", kept, table, written, written / m.write_rate))
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


def hash_cost(name: str, queries: int, database: int, table: float, workers: int) -> StageCost:
    """Searches through every view, which grow slowly with the index, and a closer look at what they propose."""
    one_way = queries * (CLOSER_LOOK + VIEW_SEARCHES * (database / 1e6) ** VIEW_GROWTH) if database else 0.0
    other_way = (
        database * (CLOSER_LOOK + VIEW_SEARCHES * (queries / 1e6) ** VIEW_GROWTH) if database != queries else 0.0
    )
    return StageCost(name, queries, table + HASH_BYTES * max(queries, database), 0, (one_way + other_way) / workers)


def join_cost(
    name: str, queries: int, database: int, dim: int, table: float, allowed: int, rate: float, workers: int
) -> StageCost:
    """Every vector against all centroids, each query against the cells it probes; vectors are laid out once more."""
    cells = count_cells(database) if database else 1
    products = 2 * dim * ((queries + database) * cells + queries * min(PROBES, cells) * database / cells)
    pages = database * dim * FLOAT16
    seconds = (products / rate + (queries + database) / 2 * JOIN_ROW) / workers
    return StageCost(name, queries, table + min(allowed, pages), pages, seconds)


def kmeans_cost(
    name: str, rows: int, levels: list[int], dim: int, passes: int, table: float, per_second: float
) -> StageCost:
    """Lloyd steps on the sample of each level, then one assignment of all rows; level by level."""
    products, points = 0.0, rows
    for count in levels:
        products += 2 * dim * count * (passes * min(points, count_fitting(count, dim)) + points)
        points = count
    sample = 4 * dim * min(rows, count_fitting(levels[0], dim))
    return StageCost(name, rows, table + sample, rows * 4, products / per_second)
