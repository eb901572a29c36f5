"""The steps that the pipeline and the single commands are made of: each runs one stage and hands on what it left."""

import logging
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import polars as pl

from lvd_curate.columns import EXCLUDE, POOL, ROLES, SCREENED, SEEDS
from lvd_curate.config import (
    ClusterConfig,
    DecontaminateConfig,
    DeduplicateConfig,
    EmbedConfig,
    ModerateConfig,
    RebalanceConfig,
    RetrieveConfig,
    ScreenConfig,
)
from lvd_curate.copy_detection.copies import Looks
from lvd_curate.engine.artifacts import Artifact, Workbench, fingerprint_rows
from lvd_curate.engine.catalogue import Catalogue, store_listing
from lvd_curate.engine.runner import Runner
from lvd_curate.engine.shards import ShardStage
from lvd_curate.errors import InputError
from lvd_curate.inputs.embeddings_file import PREFIX
from lvd_curate.recipes import BuildConfig
from lvd_curate.stages import cluster, decontaminate, deduplicate, embed, ingest, moderate, rebalance, retrieve, screen
from lvd_curate.vectors import Vectors

STAGES = (screen, moderate, embed, deduplicate, decontaminate, cluster, retrieve, rebalance)
THUMBNAIL, EMBEDDING = "thumbnail", "embedding"
DESCRIBED = [name for name in SCREENED if name != THUMBNAIL]  # what is held in memory of every file

logger = logging.getLogger(__name__)


class ImageSet(NamedTuple):
    """One named input."""

    role: str
    name: str
    place: str


class Screened(NamedTuple):
    """Every input file, on disk and in memory."""

    catalogue: Catalogue
    files: pl.DataFrame  # row, role, source, DESCRIBED, copy
    thumbnails: Path  # .npy uint8 [rows, S]


class Embedded(NamedTuple):
    """Unit vectors of distinct images."""

    table: pl.DataFrame  # id, vector: of the images that have a finite one
    file: Path  # .npy float16 [M, D]
    fingerprint: str

    def vectors(self, images: pl.DataFrame) -> Vectors:
        """Return the vectors of a table of images with one each, in its order."""
        found = images.select("id").join(self.table, on="id", maintain_order="left")
        return Vectors(self.file, found["vector"].to_numpy())


def name_inputs(config: BuildConfig) -> list[ImageSet]:
    """Return all sets of a recipe: pool, seeds, excluded sets."""
    return [ImageSet(role, name, place) for role in ROLES for name, place in getattr(config, role).items()]


def list_inputs(runner: Runner, sets: Sequence[ImageSet]) -> Artifact:
    """Ingest: list every file of these sets."""
    logger.info("ingest: listing %s", ", ".join(f"{each.role} {each.name}" for each in sets))
    downloads = runner.store.folder / "downloads"
    frames = chain.from_iterable(ingest.list_images(*image_set, downloads) for image_set in sets)
    return store_listing(frames, runner.store.folder)


def screen_inputs(runner: Runner, sets: Sequence[ImageSet], knobs: ScreenConfig, *, seeds_first: bool) -> Screened:
    """Ingest and screen: list every input file, then read each once.

    Raises InputError for a pool or seeds without a single usable image.
    """
    listing = list_inputs(runner, sets)
    stage = ShardStage(
        partial(screen.screen, config=knobs),
        matrices={THUMBNAIL: "u1"},
        bad=pl.col("reason").is_not_null(),
        fallback=screen.set_aside,
    )
    pieces = Catalogue((listing,)).pieces()
    screened = runner.shards("screen", stage, pieces, screen.VERSION, knobs, [listing.fingerprint])
    catalogue = Catalogue((listing, screened))
    files = catalogue.table(["role", "source", *DESCRIBED])
    for role in (POOL, SEEDS):
        mine = files.filter(pl.col("role") == role)
        if len(mine) and mine["reason"].null_count() == 0:
            first = catalogue.load(mine["row"].head(1).to_numpy())["path"][0]
            raise InputError(f"the {role} hold no usable image: {first} is {mine['reason'][0]}, and so on")
    for (name,), mine in files.filter(pl.col("role") == EXCLUDE).group_by("source", maintain_order=True):
        if mine["reason"].null_count() == 0:
            logger.warning(
                "screen: excluded set %r has no usable image (%s): nothing is compared", name, mine["reason"][0]
            )
    files = screen.find_exact_copies(files, seeds_first=seeds_first)
    return Screened(catalogue, files, screened.matrix(THUMBNAIL))


def fingerprint_content(catalogue: Catalogue) -> str:
    """Return what the inputs are, to the last byte: every file's set, name and id."""
    return catalogue.fingerprint(["role", "source", "path", "id"])


def fingerprint_encoders(runner: Runner, specs: Sequence[str], device: str) -> dict[str, str]:
    """Load each encoder once, before any work, so that one that cannot be read stops the run here."""
    load = partial(embed.fingerprint_encoder, device=device)
    if specs:
        logger.info("loading %s", ", ".join(specs))
    return dict(zip(specs, runner.executor.map(load, specs), strict=True))


def moderate_images(
    runner: Runner,
    screened: Screened,
    images: pl.DataFrame,
    config: ModerateConfig,
    models: dict[str, str],
    device: str,
) -> pl.DataFrame:
    """Moderate: return MODERATED of the distinct images of a table (id, row)."""
    distinct = images.unique("id", keep="first", maintain_order=True).sort("row")
    stage = ShardStage(partial(moderate.moderate, config=config, device=device), fallback=moderate.set_aside)
    pieces = screened.catalogue.pieces(distinct["row"].to_numpy())
    knobs = [config.nsfw, config.faces, config.face_threshold]
    inputs = [fingerprint_rows(distinct.select("id", "row")), models]
    return runner.shards("moderate", stage, pieces, moderate.VERSION, knobs, inputs).table()


def embed_images(
    runner: Runner,
    name: str,
    screened: Screened,
    images: pl.DataFrame,
    encoder: tuple[str, str],
    knobs: EmbedConfig,
    device: str,
) -> Embedded:
    """Embed the distinct images of a table (id, row) with an encoder: its SPEC and fingerprint."""
    spec, weights = encoder
    distinct = images.unique("id", keep="first", maintain_order=True).sort("row")
    run = partial(embed.embed, encoder=spec, batch_size=knobs.batch_size, precision=knobs.precision, device=device)
    stage = ShardStage(run, matrices={EMBEDDING: "<f2"}, bad=~pl.col(EMBEDDING), fallback=embed.set_aside)
    pieces = screened.catalogue.pieces(distinct["row"].to_numpy())
    config = [knobs.batch_size, knobs.precision]
    inputs = [fingerprint_rows(distinct.select("id", "row")), weights]
    if spec.startswith(PREFIX):  # ready-made embeddings may go by these names
        inputs.append(screened.catalogue.fingerprint(["source", "path"]))
    artifact = runner.shards(name, stage, pieces, embed.VERSION, config, inputs)
    table = artifact.table().with_row_index("vector").filter(EMBEDDING)
    return Embedded(
        table.select("id", pl.col("vector").cast(pl.Int64)), artifact.matrix(EMBEDDING), artifact.fingerprint
    )


def look_at(screened: Screened, images: pl.DataFrame, copies: Embedded | None) -> Looks:
    """Return what tells copies of these images: hashes, thumbnails and, with an encoder, vectors."""
    if copies is None:
        return Looks(images, screened.thumbnails, None)
    return Looks(images.join(copies.table, on="id", maintain_order="left"), screened.thumbnails, copies.file)


def find_duplicates(
    runner: Runner, images: Looks, config: DeduplicateConfig, inputs: object
) -> tuple[pl.DataFrame, str]:
    """Deduplicate: return (id, component, representative, score) and the artifact's fingerprint."""
    stage = partial(deduplicate.deduplicate, images, config)
    return runner.table("deduplicate", stage, deduplicate.VERSION, config, inputs)


def find_touches(
    runner: Runner,
    name: str,
    images: Looks,
    components: pl.DataFrame,
    references: Looks,
    knobs: tuple[DeduplicateConfig, DecontaminateConfig],
    inputs: object,
) -> pl.DataFrame:
    """Decontaminate: return what touches an excluded set."""
    copies, config = knobs

    def stage(bench: Workbench) -> pl.DataFrame:
        return decontaminate.decontaminate(images, components, references, copies, config, bench)

    named = fingerprint_rows(references.table.select("id", "source"))
    return runner.table(name, stage, decontaminate.VERSION, [copies, config], [inputs, named])[0]


def cluster_images(
    runner: Runner,
    pool: pl.DataFrame,
    images: pl.DataFrame,
    embedded: Embedded,
    config: ClusterConfig,
    random_seed: int,
) -> tuple[pl.DataFrame, str]:
    """Cluster: return (id, cluster) of these images by k-means fitted on the pool, and the artifact's fingerprint."""

    def stage(bench: Workbench) -> pl.DataFrame:
        vectors = embedded.vectors(images)
        return cluster.cluster(embedded.vectors(pool), images.select("id"), vectors, config, random_seed, bench)

    members = [fingerprint_rows(table.select("id")) for table in (pool, images)]
    return runner.table("cluster", stage, cluster.VERSION, [config, random_seed], [members, embedded.fingerprint])


def retrieve_images(
    runner: Runner,
    pool: pl.DataFrame,
    seeds: pl.DataFrame,
    embedded: Embedded,
    config: RetrieveConfig,
    random_seed: int,
    inputs: object,
) -> tuple[pl.DataFrame, str]:
    """Retrieve: return PICKS, and the artifact's fingerprint. Both tables have id and cluster, the seeds `source`."""

    def stage(bench: Workbench) -> pl.DataFrame:
        mine, theirs = embedded.vectors(pool), embedded.vectors(seeds)
        return retrieve.retrieve(pool, mine, seeds, theirs, config, random_seed, bench)

    named = fingerprint_rows(seeds.select("id", "source"))
    return runner.table("retrieve", stage, retrieve.VERSION, [config, random_seed], [inputs, named])


def rebalance_images(
    runner: Runner, images: pl.DataFrame, embedded: Embedded, config: RebalanceConfig, random_seed: int, inputs: object
) -> pl.DataFrame:
    """Rebalance: return (id, clusters, kept) of these images."""

    def stage(bench: Workbench) -> pl.DataFrame:
        return rebalance.rebalance(images.select("id"), embedded.vectors(images), config, random_seed, bench)

    return runner.table("rebalance", stage, rebalance.VERSION, [config, random_seed], inputs)[0]
