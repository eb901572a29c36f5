"""`build_lvd`: the data pipeline of DINOv2 (arXiv 2304.07193, section 3 and appendix A), from first line to last.

ingest -> screen -> embed -> deduplicate -> decontaminate -> cluster -> retrieve -> rebalance -> materialize -> report.
Every step leaves a table in the work folder `OUT.work`; the same command started again opens what is finished.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from lvd_curate.artifacts import ArtifactStore, compute_fingerprint, lock_folder, publish_folder, write_table
from lvd_curate.columns import EXCLUDE, POOL, ROLES, SEEDS
from lvd_curate.config import BuildConfig, ExecutionConfig
from lvd_curate.errors import InputError
from lvd_curate.executors import Executor, InlineExecutor, ProcessExecutor, available_cores
from lvd_curate.lineage import build_lineage, list_drops, list_duplicates, list_touched, list_unembedded
from lvd_curate.progress import track
from lvd_curate.provenance import check_output, check_published
from lvd_curate.report import Tables, write_report
from lvd_curate.stages import (
    cluster,
    decontaminate,
    deduplicate,
    embed,
    ingest,
    materialize,
    rebalance,
    retrieve,
    screen,
)

STAGES = (screen, embed, deduplicate, decontaminate, cluster, retrieve, rebalance, materialize)
MAX_SHARD, MIN_SHARDS, SMALL_SHARD = 5000, 8, 128  # images; the work is cut by their number alone, never by the workers

logger = logging.getLogger(__name__)


class Clean(NamedTuple):
    """What deduplication and decontamination leave; pool and seeds carry id, source, embedding."""

    pool: pl.DataFrame
    seeds: pl.DataFrame
    components: pl.DataFrame  # id, component, representative, score
    touches: pl.DataFrame  # id, exclude_set, reference_id, score
    drops: list[pl.DataFrame]
    fingerprint: str  # of the artifact that holds the embeddings


class Chosen(NamedTuple):
    """What the seeds bring."""

    rows: pl.DataFrame  # id, seed, retrieved_by, cluster (flat, then the hierarchy's): the dataset without its bytes
    clusters: pl.DataFrame  # id, cluster: of all clean images
    picks: pl.DataFrame
    drops: list[pl.DataFrame]


def build_lvd(config: BuildConfig, out: Path) -> bool:
    """Build the dataset at `out`; return False when it is there already, made from the same inputs and recipe.

    Raises InputError for whatever the user can mend: empty or missing inputs, an encoder that cannot be read, an `out`
    that holds something else or lies inside an input.
    """
    check_output(config, out)
    work = out.with_name(out.name + ".work")
    with lock_folder(work), open_executor(config.execution) as executor:
        build = Build(config, ArtifactStore(work), executor, fingerprint_encoders(config, executor))
        files = build.screen_inputs(work / "downloads")
        fingerprint = build.fingerprint(files)
        if out.exists():
            check_published(out, fingerprint)
            return False

        clean = build.remove_copies(files)
        chosen = build.choose(clean)
        include_seeds = config.materialize.include_seeds
        drops = [*clean.drops, *chosen.drops]
        lineage = build_lineage(files, drops, chosen.rows["id"], include_seeds=include_seeds)
        write_table(lineage, work / "lineage.parquet")
        if chosen.rows.is_empty():
            raise InputError(f"nothing is left to write; {work / 'lineage.parquet'} says why, file by file")

        draft = work / f"dataset-{fingerprint[:16]}"
        build.write_images(files, chosen.rows, draft)
        tables = Tables(files, lineage, clean.components, clean.touches, chosen.clusters, chosen.picks, chosen.rows)
        write_report(tables, config, fingerprint, build.encoders, draft)
        publish_folder(draft, out)
    return True


@dataclass(frozen=True)
class Build:
    """The steps of one run, each a stage with its inputs, its knobs and the artifact it leaves."""

    config: BuildConfig
    store: ArtifactStore
    executor: Executor
    encoders: dict[str, str]  # SPEC -> fingerprint of its weights and preprocessing

    def screen_inputs(self, downloads: Path) -> pl.DataFrame:
        """Ingest and screen: return LISTING beside SCREENED with `copy`, one row per input file."""
        sets = [(role, name, place) for role in ROLES for name, place in getattr(self.config, role).items()]
        listing = pl.concat([ingest.list_images(role, name, place, downloads) for role, name, place in sets])
        knobs = self.config.screen
        inputs = [fingerprint_rows(listing.with_columns(pl.col("file").bin.encode("hex")))]
        screened, _ = self.run_shards(
            "screen", partial(screen.screen, config=knobs), listing, screen.VERSION, knobs, inputs
        )
        files = pl.concat([listing, screened], how="horizontal")
        for role in (POOL, SEEDS):
            mine = files.filter(pl.col("role") == role)
            if mine["reason"].null_count() == 0:
                raise InputError(
                    f"the {role} hold no usable image: {mine['path'][0]} is {mine['reason'][0]}, and so on"
                )
        return screen.find_exact_copies(files, seeds_first=self.config.materialize.include_seeds)

    def fingerprint(self, files: pl.DataFrame) -> str:
        """Return what the dataset is made from: every file's bytes, the recipe, the encoders, the stages' versions."""
        versions = {stage.__name__: stage.VERSION for stage in STAGES}
        content = fingerprint_rows(files.select("role", "source", "path", "id"))
        return compute_fingerprint("dataset", versions, self.config.content(), self.encoders, content)

    def remove_copies(self, files: pl.DataFrame) -> Clean:
        """Embed, deduplicate, decontaminate: one image per component, none that touches an excluded set."""
        config, include_seeds = self.config, self.config.materialize.include_seeds
        usable = files.filter(pl.col("reason").is_null() & ~pl.col("copy"))
        is_seed = pl.col("role") == SEEDS
        own = usable.filter(pl.col("role") != EXCLUDE).with_columns(is_seed=is_seed)
        references = usable.filter(pl.col("role") == EXCLUDE)
        embedded, semantic = self.embed("embed", own, config.embed.encoder)
        mine = own if include_seeds else own.filter(~is_seed)
        drops = [list_unembedded(mine, embedded)]
        own = own.join(embedded.select("id"), on="id", maintain_order="left")
        described: list[object] = [screen.VERSION]  # what tells copies: the hashes, and a copy-detection embedding
        if config.deduplicate.encoder is None:
            logger.info("deduplicate: hash-only mode (deduplicate.encoder names no copy-detection encoder)")
        else:
            vectors, fingerprint = self.embed(
                "embed-copies", pl.concat([own.drop("is_seed"), references]), config.deduplicate.encoder
            )
            described.append(fingerprint)
            drops.append(list_unembedded(mine, vectors))
            own = own.join(vectors, on="id", maintain_order="left")
            references = references.join(vectors, on="id", maintain_order="left")

        images = own if include_seeds else own.filter(~is_seed)
        components, found = self.run_table(
            "deduplicate",
            partial(deduplicate.deduplicate, images, config.deduplicate),
            deduplicate.VERSION,
            config.deduplicate,
            [fingerprint_rows(images.select("id", "is_seed")), *described],
        )
        touches = self.find_touches("decontaminate", images, components, references, found)
        if not config.decontaminate.seeds:
            touches = touches.join(images.filter("is_seed"), on="id", how="anti", maintain_order="left")
        drops += [list_duplicates(components), list_touched(touches)]

        rest = images.join(pl.concat(drops), on="id", how="anti", maintain_order="left")
        guides = (
            rest.filter(is_seed) if include_seeds else self.clean_guides(own.filter(is_seed), references, described)
        )
        pool, seeds = (
            table.select("id", "source").join(embedded, on="id", maintain_order="left")
            for table in (rest.filter(~is_seed), guides)
        )
        return Clean(pool, seeds, components, touches, drops, semantic)

    def find_touches(
        self, name: str, images: pl.DataFrame, components: pl.DataFrame, references: pl.DataFrame, upstream: object
    ) -> pl.DataFrame:
        """Decontaminate: return what touches an excluded set."""
        copies, knobs = self.config.deduplicate, self.config.decontaminate
        stage = partial(decontaminate.decontaminate, images, components, references, copies, knobs)
        inputs = [upstream, fingerprint_rows(references.select("id", "source"))]
        return self.run_table(name, stage, decontaminate.VERSION, [copies, knobs], inputs)[0]

    def clean_guides(self, seeds: pl.DataFrame, references: pl.DataFrame, described: list[object]) -> pl.DataFrame:
        """Return the seeds that may guide retrieval without being in the dataset: none that touches an excluded set."""
        if not self.config.decontaminate.seeds:
            return seeds
        alone = seeds.select("id").with_row_index("component")
        upstream = [fingerprint_rows(alone), *described]
        touches = self.find_touches("decontaminate-seeds", seeds, alone, references, upstream)
        logger.info("decontaminate: %d seeds touch an excluded set and guide nothing", touches["id"].n_unique())
        return seeds.join(touches, on="id", how="anti", maintain_order="left")

    def choose(self, clean: Clean) -> Chosen:
        """Cluster the clean pool, retrieve what is like the seeds, and rebalance it when a target size is given."""
        config = self.config
        if clean.pool.is_empty() or clean.seeds.is_empty():
            which = POOL if clean.pool.is_empty() else SEEDS
            raise InputError(f"nothing is left of the {which} once copies and excluded images are gone")
        members = [fingerprint_rows(table.select("id", "source")) for table in (clean.pool, clean.seeds)]
        everything = pl.concat([clean.pool, clean.seeds]).unique("id", keep="first", maintain_order=True)
        clusters, clustered = self.run_table(
            "cluster",
            partial(cluster.cluster, clean.pool, everything, config.cluster, config.random_seed),
            cluster.VERSION,
            [config.cluster, config.random_seed],
            [members, clean.fingerprint],
        )
        pool, seeds = (table.join(clusters, on="id", maintain_order="left") for table in (clean.pool, clean.seeds))
        picks, picked = self.run_table(
            "retrieve",
            partial(retrieve.retrieve, pool, seeds, config.retrieve, config.random_seed),
            retrieve.VERSION,
            [config.retrieve, config.random_seed],
            clustered,
        )
        retrieved = pool.join(picks, on="id", how="semi", maintain_order="left")
        ids = retrieved.select("id").join(clusters, on="id", maintain_order="left")
        rows = ids.select("id", cluster=pl.concat_list("cluster"))
        drops = [list_drops(pool.join(picks, on="id", how="anti"), "retrieve", "not like any seed")]
        if config.rebalance.target_size is not None and len(retrieved):
            balanced, _ = self.run_table(
                "rebalance",
                partial(rebalance.rebalance, retrieved.sort("id"), config.rebalance, config.random_seed),
                rebalance.VERSION,
                [config.rebalance, config.random_seed],
                picked,
            )
            kept = balanced.filter("kept").join(rows, on="id", maintain_order="left")
            rows = kept.select("id", cluster=pl.concat_list("cluster", "clusters"))
            drops.append(list_drops(balanced.filter(~pl.col("kept")), "rebalance", "over its cluster's share"))
        return Chosen(self.join_rows(rows, seeds, picks), clusters, picks, drops)

    def join_rows(self, pool: pl.DataFrame, seeds: pl.DataFrame, picks: pl.DataFrame) -> pl.DataFrame:
        """Return (id, seed, retrieved_by, cluster) of the dataset's images: the seeds as they are, and the pool's."""
        brought = (
            picks.sort("id", -pl.col("similarity"), "seed_id", "rank", nulls_last=True)
            .group_by("id", maintain_order=True)
            .agg(seed=pl.col("seed_set").first(), retrieved_by=pl.struct("seed_id", "rank", "similarity"))
        )
        rows = pool.join(brought, on="id").select("id", "seed", "retrieved_by", "cluster")
        if not self.config.materialize.include_seeds:
            return rows
        nobody = pl.lit([], dtype=rows.schema["retrieved_by"])
        own = seeds.select("id", seed="source", retrieved_by=nobody, cluster=pl.concat_list("cluster"))
        return pl.concat([own, rows])

    def write_images(self, files: pl.DataFrame, rows: pl.DataFrame, folder: Path) -> None:
        """Materialize: write the chosen images, in the order of their ids, which is random and always the same."""
        readable = files.filter(pl.col("reason").is_null() & ~pl.col("copy") & (pl.col("role") != EXCLUDE))
        if not self.config.materialize.include_seeds:
            readable = readable.filter(pl.col("role") == POOL)
        located = rows.join(readable, on="id").sort("id")
        assert len(located) == len(rows), "every row of the dataset stands for one file"
        shard_bytes = self.config.materialize.shard_megabytes * 10**6
        with track("materialize", len(located)) as advance:
            materialize.materialize(located, folder, shard_bytes, self.executor, advance)

    def embed(self, name: str, files: pl.DataFrame, spec: str | None) -> tuple[pl.DataFrame, str]:
        """Return EMBEDDED, without nulls, for the distinct images of these files, and the artifact's fingerprint."""
        assert spec is not None
        distinct = files.unique("id", keep="first", maintain_order=True)
        knobs, device = self.config.embed, self.config.execution.device
        stage = partial(
            embed.embed, encoder=spec, batch_size=knobs.batch_size, precision=knobs.precision, device=device
        )
        inputs = [fingerprint_rows(distinct.select("id")), self.encoders[spec]]
        config = [knobs.batch_size, knobs.precision]
        table, fingerprint = self.run_shards(name, stage, distinct, embed.VERSION, config, inputs)
        return table.drop_nulls(), fingerprint

    def run_table(
        self, name: str, stage: Callable[[], pl.DataFrame], version: int, config: object, inputs: object
    ) -> tuple[pl.DataFrame, str]:
        """Run a stage that needs its whole input at once, or open what it left; return its table and fingerprint.

        `inputs` holds the fingerprints of what it reads, so that whatever changes upstream makes it run anew.
        """
        artifact = self.store.open_or_build(name, stage, version=version, config=config, inputs=inputs)
        return artifact.table(), artifact.fingerprint

    def run_shards(
        self,
        name: str,
        stage: Callable[[pl.DataFrame], pl.DataFrame],
        rows: pl.DataFrame,
        version: int,
        config: object,
        inputs: object,
    ) -> tuple[pl.DataFrame, str]:
        """Run a stage over shards of its input, or open what it left; return its table and fingerprint."""
        size = min(MAX_SHARD, max(SMALL_SHARD, -(-len(rows) // MIN_SHARDS)))
        shards = [rows[start : start + size] for start in range(0, len(rows), size)]
        build = partial(self.store.open_or_build_shards, name, stage, shards, self.executor, track=track)
        artifact = build(version=version, config=config, inputs=[inputs, size])
        return artifact.table(), artifact.fingerprint


def fingerprint_rows(table: pl.DataFrame) -> str:
    """Hash a table's values."""
    return compute_fingerprint(table.columns, table.rows())


def fingerprint_encoders(config: BuildConfig, executor: Executor) -> dict[str, str]:
    """Load each encoder once, before any work, so that one that cannot be read stops the run here."""
    specs = [spec for spec in (config.embed.encoder, config.deduplicate.encoder) if spec is not None]
    load = partial(embed.fingerprint_encoder, device=config.execution.device)
    return dict(zip(specs, executor.map(load, specs), strict=True))


@contextmanager
def open_executor(config: ExecutionConfig) -> Iterator[Executor]:
    """Yield the engine that runs shards."""
    if config.engine == "inline":
        yield InlineExecutor()
        return
    with ProcessExecutor(config.workers or available_cores()) as executor:
        yield executor
