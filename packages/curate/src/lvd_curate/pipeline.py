"""`build_lvd`: the data pipeline of DINOv2 (arXiv 2304.07193, section 3 and appendix A), from first line to last.

ingest -> screen -> embed -> deduplicate -> decontaminate -> cluster -> retrieve -> rebalance -> materialize -> report.
Every step leaves a table in the work folder `OUT.work`; the same command started again opens what is finished.
"""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from lvd_curate.columns import DROPS, EXCLUDE, POOL, SEEDS
from lvd_curate.copy_detection.copies import Looks
from lvd_curate.engine.artifacts import compute_fingerprint, fingerprint_rows, publish_folder, write_table
from lvd_curate.engine.progress import track
from lvd_curate.engine.runner import Runner, open_runner
from lvd_curate.errors import InputError
from lvd_curate.lineage import (
    build_lineage,
    list_drops,
    list_duplicates,
    list_touched,
    list_unembedded,
    list_unsafe,
    write_lineage,
)
from lvd_curate.provenance import check_output, check_published, write_provenance
from lvd_curate.recipes import BuildConfig
from lvd_curate.reporting.card import write_card
from lvd_curate.reporting.counts import count_curves, count_everything
from lvd_curate.reporting.galleries import choose_shown
from lvd_curate.reporting.report import write_report
from lvd_curate.reporting.story import FOLDER, open_story, write_previews
from lvd_curate.stages import materialize, moderate, retrieve, screen
from lvd_curate.steps import (
    STAGES,
    Embedded,
    Screened,
    cluster_images,
    embed_images,
    find_duplicates,
    find_touches,
    fingerprint_content,
    fingerprint_encoders,
    look_at,
    moderate_images,
    name_inputs,
    rebalance_images,
    retrieve_images,
    screen_inputs,
)

logger = logging.getLogger(__name__)


class Clean(NamedTuple):
    """What deduplication and decontamination leave; pool and seeds carry id and source."""

    pool: pl.DataFrame
    seeds: pl.DataFrame
    components: pl.DataFrame  # id, component, representative, score
    touches: pl.DataFrame  # id, exclude_set, reference_id, score
    drops: list[pl.DataFrame]
    embedded: Embedded


class Chosen(NamedTuple):
    """What the seeds bring."""

    rows: pl.DataFrame  # id, seed, retrieved_by, cluster (flat, then the hierarchy's): the dataset without its bytes
    clusters: pl.DataFrame  # id, cluster: of all clean images
    picks: pl.DataFrame
    balanced: pl.DataFrame | None  # id, clusters, kept: what rebalancing chose from
    drops: list[pl.DataFrame]


def build_lvd(config: BuildConfig, out: Path) -> bool:
    """Build the dataset at `out`; return False when it is there already, made from the same inputs and recipe.

    Raises InputError for whatever the user can mend: empty or missing inputs, an encoder that cannot be read, an `out`
    that holds something else or lies inside an input.
    """
    check_output(config, out)
    retrieve.check_set_names(config.retrieve, config.seeds)
    work = out.with_name(out.name + ".work")
    with open_runner(work, config.execution) as runner:
        build = Build(config, runner, load_models(config, runner))
        screened = build.screen_inputs()
        fingerprint = build.fingerprint(screened)
        if out.exists():
            check_published(out, fingerprint, set_aside=config.execution.set_aside)
            return False

        moderated = build.moderate(screened)
        unsafe = list_unsafe(moderated, config.moderate) if moderated is not None else DROPS.to_frame()
        clean = build.remove_copies(screened, unsafe)
        chosen = build.choose(clean)
        drops = [unsafe, *clean.drops, *chosen.drops]
        include_seeds = config.materialize.include_seeds
        lineage = build_lineage(screened.files, drops, chosen.rows["id"], include_seeds=include_seeds)
        if chosen.rows.is_empty():
            write_lineage(lineage, screened.catalogue, work / "lineage.parquet")
            raise InputError(f"nothing is left to write; {work / 'lineage.parquet'} says why, file by file")

        draft = work / f"dataset-{fingerprint[:16]}"
        build.write_images(screened, chosen.rows, moderated, draft)
        write_lineage(lineage, screened.catalogue, draft / "lineage.parquet")
        build.write_story(screened, clean, chosen, moderated, draft)
        counts = count_everything(lineage, open_story(draft))
        write_provenance(draft, fingerprint, config, build.models, counts, runner.lacking)
        write_card(draft)
        write_report(draft)
        publish_folder(draft, out)
    return True


def load_models(config: BuildConfig, runner: Runner) -> dict[str, str]:
    """Return the fingerprint of every model the recipe names: by SPEC for encoders, by knob for moderation."""
    device = config.execution.device
    specs = [spec for spec in (config.embed.encoder, config.deduplicate.encoder) if spec is not None]
    load = partial(moderate.fingerprint_models, device=device)
    moderating = next(iter(runner.executor.map(load, [config.moderate])))  # where they will run
    return fingerprint_encoders(runner, specs, device) | moderating


def warn_unguarded(references: pl.DataFrame, embedded: pl.DataFrame) -> None:
    """Say how many excluded images the copy-detection encoder gives no vector for: nothing is compared with them."""
    lost = references.join(embedded, on="id", how="anti")
    if len(lost):
        logger.warning("decontaminate: %d excluded images have no finite vector and guard nothing", len(lost))


@dataclass(frozen=True)
class Build:
    """The chapters of one run."""

    config: BuildConfig
    runner: Runner
    models: dict[str, str]  # SPEC or knob -> fingerprint of weights and preprocessing

    def screen_inputs(self) -> Screened:
        """Ingest and screen all sets: pool, seeds, excluded sets."""
        config = self.config
        return screen_inputs(
            self.runner, name_inputs(config), config.screen, seeds_first=config.materialize.include_seeds
        )

    def fingerprint(self, screened: Screened) -> str:
        """Return what the dataset is made from: every file's bytes, the recipe, the encoders, the stages' versions."""
        versions = {stage.__name__: stage.VERSION for stage in (*STAGES, materialize)}
        content = fingerprint_content(screened.catalogue)
        return compute_fingerprint("dataset", versions, self.config.content(), self.models, content)

    def embed(self, name: str, screened: Screened, images: pl.DataFrame, spec: str | None) -> Embedded:
        """Embed images with one of the recipe's encoders."""
        assert spec is not None
        encoder = (spec, self.models[spec])
        return embed_images(
            self.runner, name, screened, images, encoder, self.config.embed, self.config.execution.device
        )

    def moderate(self, screened: Screened) -> pl.DataFrame | None:
        """Moderate: return MODERATED of pool and seeds, None when the recipe names no model for it."""
        knobs = self.config.moderate
        if knobs.nsfw is None and knobs.faces is None:
            return None
        usable = pl.col("reason").is_null() & ~pl.col("copy") & (pl.col("role") != EXCLUDE)
        images = screened.files.filter(usable)
        models = {knob: found for knob, found in self.models.items() if knob in ("nsfw", "faces")}
        return moderate_images(self.runner, screened, images, knobs, models, self.config.execution.device)

    def remove_copies(self, screened: Screened, unsafe: pl.DataFrame) -> Clean:
        """Embed, deduplicate, decontaminate: one image per component, none that touches an excluded set."""
        config, include_seeds = self.config, self.config.materialize.include_seeds
        usable = screened.files.filter(pl.col("reason").is_null() & ~pl.col("copy"))
        is_seed = pl.col("role") == SEEDS
        own = usable.filter(pl.col("role") != EXCLUDE).with_columns(is_seed=is_seed)
        own = own.join(unsafe, on="id", how="anti", maintain_order="left")
        references = usable.filter(pl.col("role") == EXCLUDE)
        semantic = self.embed("embed", screened, own, config.embed.encoder)
        mine = own if include_seeds else own.filter(~is_seed)
        drops = [list_unembedded(mine, semantic.table)]
        own = own.join(semantic.table, on="id", how="semi", maintain_order="left")
        described: list[object] = [screen.VERSION]  # what tells copies: the hashes, and a copy-detection embedding
        copies = None
        if config.deduplicate.encoder is None:
            logger.info("deduplicate: hash-only mode (deduplicate.encoder names no copy-detection encoder)")
        else:
            everything = pl.concat([own.drop("is_seed"), references])
            copies = self.embed("embed-copies", screened, everything, config.deduplicate.encoder)
            described.append(copies.fingerprint)
            drops.append(list_unembedded(mine, copies.table))
            warn_unguarded(references, copies.table)
            own, references = (
                t.join(copies.table, on="id", how="semi", maintain_order="left") for t in (own, references)
            )

        images = own if include_seeds else own.filter(~is_seed)
        looks, others = (look_at(screened, table, copies) for table in (images, references))
        inputs = [fingerprint_rows(images.select("id", "is_seed")), *described]
        components, found = find_duplicates(self.runner, looks, config.deduplicate, inputs)
        knobs = (config.deduplicate, config.decontaminate)
        touches = find_touches(self.runner, "decontaminate", looks, components, others, knobs, found)
        if not config.decontaminate.seeds:
            touches = touches.join(images.filter("is_seed"), on="id", how="anti", maintain_order="left")
        drops += [list_duplicates(components), list_touched(touches)]

        rest = images.join(pl.concat(drops), on="id", how="anti", maintain_order="left")
        if include_seeds:
            guides = rest.filter(is_seed)
        else:
            guides = self.clean_guides(look_at(screened, own.filter(is_seed), copies), others, described)
        return Clean(rest.filter(~is_seed), guides, components, touches, drops, semantic)

    def clean_guides(self, seeds: Looks, references: Looks, described: list[object]) -> pl.DataFrame:
        """Return the seeds that may guide retrieval without being in the dataset: none that touches an excluded set."""
        config = self.config
        if not config.decontaminate.seeds:
            return seeds.table
        alone = seeds.table.select("id").with_row_index("component")
        inputs = [fingerprint_rows(alone), *described]
        knobs = (config.deduplicate, config.decontaminate)
        touches = find_touches(self.runner, "decontaminate-seeds", seeds, alone, references, knobs, inputs)
        logger.info("decontaminate: %d seeds touch an excluded set and guide nothing", touches["id"].n_unique())
        return seeds.table.join(touches, on="id", how="anti", maintain_order="left")

    def choose(self, clean: Clean) -> Chosen:
        """Cluster the clean pool, retrieve what is like the seeds, and rebalance it when a target size is given."""
        config, runner, seed = self.config, self.runner, self.config.random_seed
        if clean.pool.is_empty() or clean.seeds.is_empty():
            which = POOL if clean.pool.is_empty() else SEEDS
            raise InputError(f"nothing is left of the {which} once copies and excluded images are gone")
        everything = pl.concat([table.select("id") for table in (clean.pool, clean.seeds)])
        everything = everything.unique("id", keep="first", maintain_order=True)
        embedded = clean.embedded
        clusters, clustered = cluster_images(runner, clean.pool, everything, embedded, config.cluster, seed)
        pool, seeds = (
            table.select("id", "source").join(clusters, on="id", maintain_order="left")
            for table in (clean.pool, clean.seeds)
        )
        picks, picked = retrieve_images(runner, pool, seeds, embedded, config.retrieve, seed, clustered)
        retrieved = pool.join(picks, on="id", how="semi", maintain_order="left")
        rows = retrieved.select("id", cluster=pl.concat_list("cluster"))
        drops = [list_drops(pool.join(picks, on="id", how="anti"), "retrieve", "not like any seed")]
        balanced = None
        if config.rebalance.target_size is not None and len(retrieved):
            balanced = rebalance_images(runner, retrieved.sort("id"), embedded, config.rebalance, seed, picked)
            kept = balanced.filter("kept").join(rows, on="id", maintain_order="left")
            rows = kept.select("id", cluster=pl.concat_list("cluster", "clusters"))
            drops.append(list_drops(balanced.filter(~pl.col("kept")), "rebalance", "over its cluster's share"))
        return Chosen(self.join_rows(rows, seeds, picks), clusters, picks, balanced, drops)

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

    def write_images(
        self, screened: Screened, rows: pl.DataFrame, moderated: pl.DataFrame | None, folder: Path
    ) -> None:
        """Materialize: write the chosen images, in the order of their ids, which is random and always the same."""
        wanted = pl.col("reason").is_null() & ~pl.col("copy") & (pl.col("role") != EXCLUDE)
        if not self.config.materialize.include_seeds:
            wanted &= pl.col("role") == POOL
        readable = screened.files.filter(wanted).select("row", "id").join(rows, on="id", how="semi").sort("row")
        images = screened.catalogue.load(readable["row"].to_numpy()).join(rows, on="id", maintain_order="left")
        assert len(images) == len(rows), "every row of the dataset stands for one file"
        if moderated is not None and self.config.moderate.blur_faces:
            images = images.join(moderated.select("id", "faces"), on="id", how="left", maintain_order="left")
        shard_bytes = self.config.materialize.shard_megabytes * 10**6
        materialize.materialize(images, folder, shard_bytes, self.runner.executor, track)

    def write_story(
        self, screened: Screened, clean: Clean, chosen: Chosen, moderated: pl.DataFrame | None, folder: Path
    ) -> None:
        """Keep what the stages found out, and pictures of what the report will show."""
        tables = {"components": clean.components, "touches": clean.touches, "clusters": chosen.clusters}
        tables |= {"picks": chosen.picks, "curves": count_curves(clean.components, clean.touches)}
        optional = {"moderation": moderated, "balanced": chosen.balanced}
        tables |= {name: table for name, table in optional.items() if table is not None}
        (folder / FOLDER).mkdir(exist_ok=True)
        for name, table in tables.items():
            write_table(table, folder / FOLDER / f"{name}.parquet")
        shown = choose_shown(open_story(folder))
        blurred = None
        if moderated is not None and self.config.moderate.blur_faces:
            blurred = moderated.drop_nulls("faces")  # where no model could look, nothing is shown
        write_previews(shown, screened, folder / FOLDER / "previews.parquet", blurred=blurred)
