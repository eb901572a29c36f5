"""Single steps of the pipeline as commands and functions of their own: embed, dedup, retrieve, balance.

Each writes one Parquet file, a row per image, and keeps what it finished in `OUT.work` until it is there. Where a place
is `embeddings:FILE`, no image is read: the vectors are all there is.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lvd_curate.columns import POOL, SEEDS
from lvd_curate.config import EmbedConfig, ExecutionConfig, ScreenConfig
from lvd_curate.copy_detection.copies import Looks
from lvd_curate.engine.artifacts import fingerprint_rows, write_table, write_whole
from lvd_curate.engine.runner import Runner, open_runner
from lvd_curate.errors import InputError
from lvd_curate.lineage import build_lineage, list_duplicates, list_unembedded
from lvd_curate.provenance import check_outside
from lvd_curate.recipes import BalanceRecipe, DedupRecipe, EmbedRecipe, RetrieveRecipe, are_embeddings
from lvd_curate.stages import screen
from lvd_curate.stages.retrieve import check_set_names
from lvd_curate.steps import (
    EMBEDDING,
    Embedded,
    ImageSet,
    Screened,
    cluster_images,
    embed_images,
    find_duplicates,
    fingerprint_encoders,
    look_at,
    rebalance_images,
    retrieve_images,
    screen_inputs,
)
from lvd_curate.vectors import Vectors

BLOCK = 8192  # vectors written at a time


class Images(NamedTuple):
    """What a command works on: every image once, by id, with a vector."""

    table: pl.DataFrame  # id, role, source
    names: pl.DataFrame  # id, source, path: of every usable file
    embedded: Embedded

    def check(self, sets: Mapping[str, object]) -> "Images":
        """Raise InputError where a role of these sets is left without a single vector."""
        for role in sets:
            if role not in self.table["role"]:
                raise InputError(
                    f"the {role} hold no finite vector: nothing can be compared; look at the encoder's output"
                )
        return self


def embed(config: EmbedRecipe, out: Path) -> pl.DataFrame:
    """Write (id, source, path, embedding float16 [D]) of every distinct image; return it without the vectors.

    Files of equal bytes are one image, named after the first.
    """
    with open_door(out, config) as runner:
        images = open_images(runner, {POOL: config.pool}, config.screen, config.embed, config.execution)
        names = images.names.unique("id", keep="first", maintain_order=True)
        rows = names.join(images.embedded.table, on="id", maintain_order="left")
        write_vectors(rows, images.embedded.file, out)
        return rows.drop("vector")


def dedup(config: DedupRecipe, out: Path) -> pl.DataFrame:
    """Write and return LINEAGE of every file with its `component`; status `kept` marks who stands for each group."""
    with open_door(out, config) as runner:
        if are_embeddings(list(config.pool.values())):
            images = open_embeddings(runner, {POOL: config.pool})
            rows = dedup_vectors(runner, images, config)
        else:
            rows = dedup_images(runner, config)
        write_table(rows, out)
        return rows


def retrieve(config: RetrieveRecipe, out: Path) -> pl.DataFrame:
    """Write and return PICKS with the paths of image and seed: which pool image each seed brought, and how alike."""
    check_set_names(config.retrieve, config.seeds)
    with open_door(out, config) as runner:
        sets = {POOL: config.pool, SEEDS: config.seeds}
        images = open_images(runner, sets, config.screen, config.embed, config.execution)
        pool, seeds = (images.table.filter(pl.col("role") == role) for role in (POOL, SEEDS))
        pool = pool.join(seeds, on="id", how="anti", maintain_order="left")
        if pool.is_empty():
            raise InputError("every image of the pool is a seed, too: there is nothing to retrieve")
        both, seed = images.table.unique("id", keep="first", maintain_order=True), config.random_seed
        clusters, made = cluster_images(runner, pool, both, images.embedded, config.cluster, seed)
        pool, seeds = (
            table.select("id", "source").join(clusters, on="id", maintain_order="left") for table in (pool, seeds)
        )
        picks, _ = retrieve_images(runner, pool, seeds, images.embedded, config.retrieve, seed, made)
        paths = images.names.unique("id", keep="first", maintain_order=True).select("id", "path")
        rows = picks.join(paths, on="id", how="left", maintain_order="left").join(
            paths.rename({"id": "seed_id", "path": "seed_path"}), on="seed_id", how="left", maintain_order="left"
        )
        write_table(rows, out)
        return rows


def balance(config: BalanceRecipe, out: Path) -> pl.DataFrame:
    """Write and return (id, source, path, clusters finest first, kept) of every distinct image."""
    with open_door(out, config) as runner:
        images = open_images(runner, {POOL: config.pool}, config.screen, config.embed, config.execution)
        ordered = images.table.sort("id")
        made = [fingerprint_rows(ordered.select("id")), images.embedded.fingerprint]
        kept = rebalance_images(runner, ordered, images.embedded, config.rebalance, config.random_seed, made)
        names = images.names.unique("id", keep="first", maintain_order=True)
        rows = names.join(kept, on="id", maintain_order="left")
        write_table(rows, out)
        return rows


@contextmanager
def open_door(out: Path, config: EmbedRecipe | DedupRecipe | RetrieveRecipe | BalanceRecipe) -> Iterator[Runner]:
    """Check where the result goes, lock the work folder and start the engine."""
    check_outside({role: getattr(config, role, {}) for role in (POOL, SEEDS)}, "--out", out)
    if out.suffix != ".parquet":
        raise InputError(f"--out {out}: name a file ending in .parquet")
    if out.exists():
        raise InputError(f"--out {out} is there already; move it away or choose another")
    if not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.absolute().parent}; make it first")
    with open_runner(out.with_name(out.name + ".work"), config.execution) as runner:
        yield runner


def open_images(
    runner: Runner,
    sets: Mapping[str, Mapping[str, str]],
    knobs: ScreenConfig,
    encoding: EmbedConfig,
    execution: ExecutionConfig,
) -> Images:
    """Screen and embed the images of some sets, or open the vectors that were given in their place."""
    if are_embeddings([place for places in sets.values() for place in places.values()]):
        return open_embeddings(runner, sets)
    assert encoding.encoder is not None
    models = fingerprint_encoders(runner, [encoding.encoder], execution.device)
    named = [ImageSet(role, name, place) for role, places in sets.items() for name, place in places.items()]
    screened = screen_inputs(runner, named, knobs, seeds_first=False)
    usable = screened.files.filter(pl.col("reason").is_null())
    encoder = (encoding.encoder, models[encoding.encoder])
    embedded = embed_images(runner, "embed", screened, usable, encoder, encoding, execution.device)
    table = usable.filter(~pl.col("copy")).join(embedded.table, on="id", how="semi", maintain_order="left")
    names = screened.catalogue.table(["source", "path", "id"])
    names = names.join(usable.select("row"), on="row", how="semi", maintain_order="left")
    return Images(table.select("id", "role", "source"), names.select("id", "source", "path"), embedded).check(sets)


def open_embeddings(runner: Runner, sets: Mapping[str, Mapping[str, str]]) -> Images:
    """Put ready-made vectors behind one another in one file; their names stand for the images."""
    from lvd_curate.inputs.embeddings_file import read_embeddings

    parts, files = [], []
    for role, places in sets.items():
        for name, place in places.items():
            names, file = read_embeddings(place, runner.store.folder)
            path = pl.col("id")
            if "path" in names.columns:  # equal names in different sets are different images
                own = [column for column in ("source", "path") if column in names.columns]
                path = pl.concat_str(pl.lit(name), *own, separator="/")
            ids = pl.col("id") if "id" in names.columns else pl.concat_str(pl.lit(role), path, separator="/")
            parts.append(names.select(id=ids, path=path, finite="finite", role=pl.lit(role), source=pl.lit(name)))
            files.append(file)
    joined = (
        runner.store.folder
        / f"joined-{fingerprint_rows(pl.DataFrame({'file': [file.name for file in files]}))[:16]}.npy"
    )
    join_files(files, joined)
    rows = pl.concat(parts).with_row_index("vector").with_columns(pl.col("vector").cast(pl.Int64)).filter("finite")
    distinct = rows.unique(["role", "id"], keep="first", maintain_order=True)
    table = distinct.unique("id", keep="first", maintain_order=True).select("id", "vector")
    embedded = Embedded(table, joined, fingerprint_rows(rows.select("id", "vector")) + joined.stem)
    return Images(distinct.select("id", "role", "source"), rows.select("id", "source", "path"), embedded).check(sets)


def join_files(files: list[Path], joined: Path) -> None:
    """Write matrices of one width behind one another, unless that was done."""
    if joined.exists():
        return
    parts = [np.load(file, mmap_mode="r") for file in files]
    widths = sorted({part.shape[1] for part in parts})
    if len(widths) > 1:
        raise InputError(f"the embeddings have {' and '.join(map(str, widths))} dimensions; give those of one encoder")
    with write_whole(joined) as stream:
        header = {"descr": "<f2", "fortran_order": False, "shape": (sum(map(len, parts)), widths[0])}
        np.lib.format.write_array_header_1_0(stream, header)
        for part in parts:
            for start in range(0, len(part), BLOCK):
                stream.write(part[start : start + BLOCK].tobytes())


def dedup_images(runner: Runner, config: DedupRecipe) -> pl.DataFrame:
    """Deduplicate images by hashes and, where the recipe names one, a copy-detection encoder."""
    spec, device = config.deduplicate.encoder, config.execution.device
    models = fingerprint_encoders(runner, [spec] if spec else [], device)
    named = [ImageSet(POOL, name, place) for name, place in config.pool.items()]
    screened = screen_inputs(runner, named, config.screen, seeds_first=False)
    images = screened.files.filter(pl.col("reason").is_null() & ~pl.col("copy")).with_columns(is_seed=False)
    described: list[object] = [screen.VERSION]
    drops, copies = [], None
    if spec is not None:
        copies = embed_images(runner, "embed-copies", screened, images, (spec, models[spec]), config.embed, device)
        drops.append(list_unembedded(images, copies.table))
        described.append(copies.fingerprint)
        images = images.join(copies.table, on="id", how="semi", maintain_order="left")
    inputs = [fingerprint_rows(images.select("id")), *described]
    components, _ = find_duplicates(runner, look_at(screened, images, copies), config.deduplicate, inputs)
    drops.append(list_duplicates(components))
    kept = components.filter(pl.col("id") == pl.col("representative"))["id"]
    return join_components(screened, drops, kept, components)


def join_components(
    screened: Screened, drops: list[pl.DataFrame], kept: pl.Series, components: pl.DataFrame
) -> pl.DataFrame:
    """Return LINEAGE with paths and components."""
    lineage = build_lineage(screened.files, drops, kept, include_seeds=True)
    paths = screened.catalogue.table(["path"])["path"]
    return lineage.insert_column(3, paths).join(
        components.select("id", "component"), on="id", how="left", maintain_order="left"
    )


def dedup_vectors(runner: Runner, images: Images, config: DedupRecipe) -> pl.DataFrame:
    """Deduplicate vectors alone: neighbours above the threshold, connected components."""
    unknown = {name: pl.lit(None, pl.UInt64) for name in ("local_hash", "global_hash")}
    unknown |= {name: pl.lit(0, pl.Int64) for name in ("row", "width", "height", "bytes")}
    table = images.table.with_columns(**unknown, is_seed=pl.lit(False))
    table = table.join(images.embedded.table, on="id", maintain_order="left")
    looks = Looks(table, images.embedded.file, images.embedded.file)  # without a hash no thumbnail is looked at
    inputs = [fingerprint_rows(images.table.select("id")), images.embedded.fingerprint]
    components, _ = find_duplicates(runner, looks, config.deduplicate, inputs)
    return images.names.join(components, on="id", maintain_order="left")


def write_vectors(rows: pl.DataFrame, file: Path, out: Path) -> None:
    """Write rows with their vectors as Parquet, row group by row group."""
    vectors = Vectors(file, rows["vector"].to_numpy())
    narrow = rows.drop("vector")
    kind = pa.list_(pa.float16(), vectors.dim)
    schema = narrow.to_arrow().schema.append(pa.field(EMBEDDING, kind))
    with write_whole(out) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as parquet:
        for start in range(0, len(rows), BLOCK):
            block = vectors[start : start + BLOCK].load().astype(np.float16)
            column = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), type=kind)
            parquet.write_table(narrow[start : start + BLOCK].to_arrow().append_column(schema.field(EMBEDDING), column))
