"""Retrieve: pool images that are like the seeds, for each seed image and for each cluster that seeds fall into.

DINOv2 (arXiv 2304.07193), A.4. Large seed sets take the N nearest pool images of every seed image; small ones take M
images of every cluster that holds more than 3 of their images, up to a cap. With a small pool both are done.

The paper does not say what becomes of an image that is chosen twice. The dataset holds it once, and PICKS a row for
every reason; `retrieve.collisions` says what is counted and drawn:
- multiset: picks. Every seed takes its N and every cluster its M, whatever the others took; N x seeds rows, as in the
  paper's Table 15.
- unique: images. Seeds take the same as above, and the cluster draw of a set passes over what its own seeds brought.
- refill: no image is picked twice. It goes to the seed it is most like (then to the lowest seed id), and the others
  take their next nearest until each has N or the pool is used up; cluster draws, set by set in the order of their
  names, pass over everything taken before.
"""

import hashlib
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from lvd_curate.columns import PICKS
from lvd_curate.config import RetrieveConfig
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.errors import InputError
from lvd_curate.search.kmeans import find_best_match
from lvd_curate.search.neighbours import find_pairs_between
from lvd_curate.search.pairs import Pairs, join_pairs, keep_best
from lvd_curate.search.sharing import count_up, share_out
from lvd_curate.vectors import Vectors

VERSION = 2
SMALL_POOL = 100_000_000  # images; from here on the paper's own numbers hold
LARGE_SEED_SET = 1_000_000  # images from which on the paper retrieves per seed image
PAPER_PER_CLUSTER, PAPER_CAP = 10_000, 1_000_000
CLUSTER_SHARE = 1.34  # the paper's M over its mean cluster: 10,000 of 7,440
POOL_SHARE = 4  # one seed set's clusters may bring at most a quarter of a small pool
OVERFETCH = 4  # times N neighbours are looked up at first when collisions are refilled
BYTES_PER_NEIGHBOUR = 128  # looked up for a refill: itself, and its copies while it is sorted

logger = logging.getLogger(__name__)


class Scale(NamedTuple):
    """The paper's numbers for this pool."""

    per_cluster: int
    max_per_set: int


@dataclass(frozen=True)
class Images:
    """Ids, vectors and clusters [N]."""

    ids: pl.Series
    vectors: Vectors
    clusters: np.ndarray

    @classmethod
    def of(cls, table: pl.DataFrame, vectors: Vectors) -> "Images":
        """Take the columns of a table out, beside its vectors."""
        return cls(table["id"], vectors, table["cluster"].to_numpy())

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class SeedSet:
    """The seeds of one name and how they choose."""

    name: str
    seeds: Images
    neighbours: int  # nearest of each seed image; 0: not per image
    clusters: np.ndarray  # that are chosen; none: not per cluster


class Members(NamedTuple):
    """Which positions each cluster holds."""

    order: np.ndarray  # positions by cluster, rising within one
    clusters: np.ndarray  # of each of these

    @classmethod
    def of(cls, clusters: np.ndarray) -> "Members":
        """Sort them once."""
        order = np.argsort(clusters, kind="stable")
        return cls(order, clusters[order])

    def find(self, number: int) -> np.ndarray:
        """Return the positions of one cluster."""
        start, stop = np.searchsorted(self.clusters, [number, number + 1])
        return self.order[start:stop]


class Picked(NamedTuple):
    """Pool positions with the seed positions they are picked for; `ranks` count from 1, or are 0 in clusters."""

    rows: np.ndarray
    seeds: np.ndarray
    ranks: np.ndarray
    similarities: np.ndarray


NOTHING = Picked(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def retrieve(
    pool: pl.DataFrame,
    pool_vectors: Vectors,
    seeds: pl.DataFrame,
    seed_vectors: Vectors,
    config: RetrieveConfig,
    random_seed: int,
    bench: Workbench,
) -> pl.DataFrame:
    """Return PICKS: one row per pool image and reason it was chosen, set by set in the order of their names.

    Both tables have id and cluster and lie parallel to their vectors; the seeds' `source` is the name of their set.
    """
    candidates = Images.of(pool, pool_vectors)
    names = seeds["source"].unique().sort().to_list()
    sets = [plan_set(name, seeds, seed_vectors, config, len(pool)) for name in names]
    if config.collisions == "refill":
        sampled = refill(candidates, sets, bench)
    else:
        sampled = [look_up(candidates, mine.seeds.vectors, mine.neighbours, bench) for mine in sets]
    scale = scale_to_pool(len(pool), len(np.unique(candidates.clusters)), config)
    logger.info("retrieve: up to %d images per chosen cluster, %d per seed set", *scale)
    members, tables = Members.of(candidates.clusters), [pl.DataFrame(schema=PICKS)]
    taken = np.zeros(len(pool), dtype=bool)
    if config.collisions == "refill":
        taken[np.concatenate([picked.rows for picked in sampled])] = True
    for mine, nearest in zip(sets, sampled, strict=True):
        if config.collisions == "unique":
            taken[:] = False
            taken[nearest.rows] = True
        drawn = pick_clusters(candidates, members, mine, scale, taken, random_seed, bench)
        if config.collisions == "refill":
            taken[drawn.rows] = True
        tables += [tabulate(candidates, mine, nearest, "sample"), tabulate(candidates, mine, drawn, "cluster")]
    picks = pl.concat(tables)
    logger.info("retrieve: %d picks of %d images", len(picks), picks["id"].n_unique())
    return picks


def check_set_names(config: RetrieveConfig, names: Iterable[str]) -> None:
    """Raise InputError when a knob of its own is given to a seed set that there is not; for the start of a run."""
    known = sorted(names)
    for knob, given in (("set_neighbours", config.set_neighbours), ("set_mode", config.set_mode)):
        for name in given:
            if name not in known:
                raise InputError(f"retrieve.{knob}: no seed set is named {name!r}; there are {', '.join(known)}")


def choose_modes(mode: str, pool_size: int, seed_set_size: int) -> tuple[str, ...]:
    """Return which of sample and cluster retrieval one seed set gets."""
    if mode == "auto":
        mode = "both" if pool_size < SMALL_POOL else "sample" if seed_set_size > LARGE_SEED_SET else "cluster"
    return ("sample", "cluster") if mode == "both" else (mode,)


def scale_to_pool(pool_size: int, num_clusters: int, config: RetrieveConfig) -> Scale:
    """Shrink M and the cap to the pool, in the paper's proportions; what the user set stays."""
    mean = pool_size / max(1, num_clusters)
    per_cluster = config.per_cluster or min(PAPER_PER_CLUSTER, math.ceil(CLUSTER_SHARE * mean))
    max_per_set = config.max_per_set or min(PAPER_CAP, max(1, pool_size // POOL_SHARE))
    return Scale(per_cluster, max_per_set)


def count_nominal(config: RetrieveConfig, name: str, num_seeds: int, pool_size: int, num_clusters: int) -> int:
    """Return how many picks a seed set makes at most, before it is known which clusters its seeds fall into."""
    modes = choose_modes(config.set_mode.get(name, config.mode), pool_size, num_seeds)
    scale = scale_to_pool(pool_size, num_clusters, config)
    chosen = min(num_clusters, num_seeds // (config.min_hits + 1))
    per_image = num_seeds * min(config.set_neighbours.get(name, config.neighbours), pool_size)
    per_cluster = min(scale.max_per_set, scale.per_cluster * chosen)
    return per_image * ("sample" in modes) + per_cluster * ("cluster" in modes)


def plan_set(name: str, seeds: pl.DataFrame, vectors: Vectors, config: RetrieveConfig, pool_size: int) -> SeedSet:
    """Choose a seed set's way; one whose seeds are too scattered for any cluster chooses per image instead."""
    mine = (seeds["source"] == name).to_numpy()
    images = Images.of(seeds.filter(mine), vectors[mine])
    modes = choose_modes(config.set_mode.get(name, config.mode), pool_size, len(images))
    chosen = np.empty(0, dtype=np.int64)
    if "cluster" in modes:
        clusters, hits = np.unique(images.clusters, return_counts=True)
        chosen = clusters[hits > config.min_hits]
        if not len(chosen):
            instead = "its images choose alone" if "sample" in modes else "it falls back to retrieval per seed image"
            logger.warning("retrieve: no cluster holds more than %d seeds of %r: %s", config.min_hits, name, instead)
            modes = ("sample",)
    neighbours = config.set_neighbours.get(name, config.neighbours) if "sample" in modes else 0
    return SeedSet(name, images, neighbours, chosen)


def look_up(pool: Images, seeds: Vectors, count: int, bench: Workbench) -> Picked:
    """Return the `count` nearest pool images of every seed, best first, with their ranks."""
    pairs = join_pairs(list(find_pairs_between(seeds, pool.vectors, count, -1, bench)))
    best = keep_best(pairs, count)
    return Picked(best.second, best.first, count_up(best.first) + 1, best.similarity)


def refill(pool: Images, sets: list[SeedSet], bench: Workbench) -> list[Picked]:
    """Return, set by set, what each seed image gets when no pool image is given twice, best first."""
    by_id = pl.concat([mine.seeds.ids for mine in sets]).arg_sort().to_numpy()
    rows = np.concatenate([mine.seeds.vectors.rows for mine in sets])
    wanted = np.concatenate([np.full(len(mine.seeds), mine.neighbours) for mine in sets])
    given = fill(pool, Vectors(sets[0].seeds.vectors.file, rows[by_id]), wanted[by_id], bench)
    places, picked, start = by_id[given.seeds], [], 0
    for mine in sets:
        own = np.flatnonzero((places >= start) & (places < start + len(mine.seeds)))
        own = own[np.lexsort((given.ranks[own], places[own]))]
        picked.append(Picked(given.rows[own], places[own] - start, given.ranks[own], given.similarities[own]))
        start += len(mine.seeds)
    return picked


def fill(pool: Images, seeds: Vectors, wanted: np.ndarray, bench: Workbench) -> Picked:
    """Look up more neighbours for seeds that others outdid, until each has as many as it wants or has seen the pool.

    Seeds come in the order of their ids. Raises InputError when the neighbours do not fit into the bench's memory.
    """
    fetch = np.minimum(OVERFETCH * wanted, len(pool))
    found, given = NOTHING, np.empty(0, dtype=np.int64)
    hungry = np.flatnonzero(wanted)
    while len(hungry):
        if int(fetch.sum()) * BYTES_PER_NEIGHBOUR > bench.max_bytes:
            raise InputError(
                f"retrieve.collisions=refill needs {int(fetch.sum())} neighbours of {len(seeds)} seeds, more than fit "
                "into memory: lower retrieve.neighbours, raise execution.max_ram_gb, or say retrieve.collisions=unique"
            )
        settled = ~np.isin(found.seeds, hungry)
        parts = [Picked(*(column[settled] for column in found))]
        for count in np.unique(fetch[hungry]):
            mine = hungry[fetch[hungry] == count]
            part = look_up(pool, seeds[mine], int(count), bench)
            parts.append(part._replace(seeds=mine[part.seeds]))
        found = Picked(*map(np.concatenate, zip(*parts, strict=True)))
        given = share_out(Pairs(found.seeds, found.rows, found.similarities), wanted, len(pool))
        got = np.bincount(found.seeds[given], minlength=len(seeds))
        hungry = np.flatnonzero((got < wanted) & (fetch < len(pool)))
        fetch[hungry] = np.minimum(2 * fetch[hungry], len(pool))
    short = int(wanted.sum()) - len(given)
    if short:
        logger.warning("retrieve: the pool is used up: the seeds get %d images fewer than they ask for", short)
    return Picked(*(column[given] for column in found))


def pick_clusters(
    pool: Images,
    members: Members,
    mine: SeedSet,
    scale: Scale,
    taken: np.ndarray,
    random_seed: int,
    bench: Workbench,
) -> Picked:
    """Draw images that are not taken from each cluster the seed set chose, then cap the whole draw."""
    draw = np.random.default_rng(derive_seed(random_seed, mine.name))
    picks, short = [np.empty(0, dtype=np.int64)], 0
    for number in mine.clusters:
        rows = members.find(number)
        rows = draw.permutation(rows[~taken[rows]])[: scale.per_cluster]
        short += scale.per_cluster - len(rows)
        picks.append(rows)
    if short:
        logger.info(
            "retrieve: the %d clusters of %r are %d images short of %d each",
            *(len(mine.clusters), mine.name, short, scale.per_cluster),
        )
    rows = np.sort(draw.permutation(np.concatenate(picks))[: scale.max_per_set])
    return find_guides(pool, mine, rows, bench)


def find_guides(pool: Images, mine: SeedSet, rows: np.ndarray, bench: Workbench) -> Picked:
    """Name for each of these pool images the seed of the same cluster that is most like it."""
    guides, similarities = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.float32)
    numbers = np.unique(pool.clusters[rows])
    drawn, seeds = (
        [members.find(number) for number in numbers]
        for members in (Members.of(pool.clusters[rows]), Members.of(mine.seeds.clusters))
    )
    pieces = [(pool.vectors[rows[own]], mine.seeds.vectors[theirs]) for own, theirs in zip(drawn, seeds, strict=True)]
    for own, theirs, (cosines, best) in zip(drawn, seeds, bench.executor.map(match_piece, pieces), strict=True):
        guides[own], similarities[own] = theirs[best], cosines
    return Picked(rows, guides, np.zeros(len(rows), dtype=np.int64), similarities)


def match_piece(piece: tuple[Vectors, Vectors]) -> tuple[np.ndarray, np.ndarray]:
    """Return cosine and position of the seed most like each image."""
    images, seeds = piece
    return find_best_match(images.load(), seeds.load())


def tabulate(pool: Images, mine: SeedSet, picked: Picked, mode: str) -> pl.DataFrame:
    """Return the PICKS of one seed set and mode."""
    columns = {
        "id": pool.ids.gather(picked.rows),
        "seed_set": pl.repeat(mine.name, len(picked.rows), eager=True),
        "mode": pl.repeat(mode, len(picked.rows), eager=True),
        "seed_id": mine.seeds.ids.gather(picked.seeds),
        "rank": pl.Series(picked.ranks).replace(0, None),
        "similarity": picked.similarities,
    }
    return pl.DataFrame(columns, schema=PICKS)


def derive_seed(random_seed: int, name: str) -> int:
    """Give each seed set its own draw, whatever other sets there are."""
    return int.from_bytes(hashlib.sha256(f"{random_seed}/{name}".encode()).digest()[:8])
