"""The command `curate`: paths and a recipe in, one clear line out when they cannot be used."""

import errno
import logging
import sys
import tempfile
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from lvd_curate import __version__
from lvd_curate.errors import InputError, ShardsFailed
from lvd_curate.inputs.file_names import PlainFormatter, show_name

UNUSABLE_PLACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}
UNUSABLE_PLACE |= {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT}

Recipe = TypeVar("Recipe")

app = typer.Typer(
    name="curate",
    help="Turn an uncurated image pool and a few seed sets into a balanced, de-duplicated, decontaminated dataset.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def show_version(asked: bool) -> None:
    """Print the version and end."""
    if asked:
        typer.echo(f"lvd-curate {__version__}")
        raise typer.Exit


@app.callback()
def configure(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Send what the stages have to say to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for library in ("httpx", "httpx2", "faiss", "datasets", "huggingface_hub", "matplotlib", "timm"):
        logging.getLogger(library).setLevel(logging.ERROR)


Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RECIPE.yaml|KEY=VALUE", help="A recipe, and settings that override it.", show_default=False
    ),
]
Dataset = Annotated[Path, typer.Argument(metavar="DATASET", help="A folder that build-lvd wrote.", show_default=False)]
Pool = Annotated[list[str] | None, typer.Option(metavar="[NAME=]PATH", help="Uncurated images; repeatable.")]
Seeds = Annotated[list[str] | None, typer.Option(metavar="NAME=PATH", help="A curated set; repeatable.")]
Exclude = Annotated[list[str] | None, typer.Option(metavar="NAME=PATH", help="A set to stay clear of; repeatable.")]
OutFile = Annotated[
    Path, typer.Option(metavar="OUT.parquet", help="The table to write; work goes to OUT.parquet.work.")
]


@app.command("build-lvd", short_help="Build a curated dataset: every step, in order.")
def build_lvd_command(
    words: Words = None,
    pool: Pool = None,
    seeds: Seeds = None,
    exclude: Exclude = None,
    out: Annotated[Path, typer.Option(metavar="OUT", help="The dataset's folder; work goes to OUT.work.")] = ...,  # type: ignore[assignment]
) -> None:
    """Build a curated dataset: every step of the DINOv2 data pipeline.

    PATH is a folder of images, tars or tables, one such file or a pattern of them, a .txt list of images, a Hugging
    Face dataset folder or a hub id hf:OWNER/NAME[:split]. Settings are key=value words such as embed.encoder=runs/tiny;
    docs/reference/curate-config.md lists them all.
    """
    from lvd_curate.recipes import BuildConfig

    config = merge(BuildConfig, words, pool=pool, seeds=seeds, exclude=exclude)
    from lvd_curate.pipeline import build_lvd

    built = build_lvd(config, out)
    typer.echo(f"{out}: {'built' if built else 'is there already, made from the same inputs and recipe'}")


@app.command("plan", short_help="Say what build-lvd will need, before it runs.")
def plan_command(
    words: Words = None,
    pool: Pool = None,
    seeds: Seeds = None,
    exclude: Exclude = None,
    out: Annotated[Path, typer.Option(metavar="OUT", help="Where the dataset is going to be.")] = Path("curated"),
    sample: Annotated[int, typer.Option(min=1, help="Images to measure on.")] = 256,
    preset: Annotated[str | None, typer.Option(help="Print a published composition instead: lvd142m.")] = None,
) -> None:
    """Say what `build-lvd` will need, before it runs: rows, memory, disk and time per stage.

    Lists the inputs and measures a sample of them with the recipe's encoders on this machine.
    """
    if preset is not None:
        from lvd_curate.presets import show_composition

        typer.echo(show_composition(preset))
        return
    from lvd_curate.recipes import BuildConfig

    config = merge(BuildConfig, words, pool=pool, seeds=seeds, exclude=exclude)
    from lvd_curate.plan import plan_build, show_plan

    typer.echo(show_plan(plan_build(config, out.with_name(out.name + ".work"), sample)))


@app.command("calibrate", short_help="Choose the threshold for copies on your own images.")
def calibrate_command(
    words: Words = None,
    pool: Pool = None,
    out: OutFile = ...,  # type: ignore[assignment]
    sample: Annotated[int, typer.Option(min=2, help="Images to plant copies of.")] = 500,
) -> None:
    """Choose the threshold for copies on your own images: plant copies in a sample, measure precision and recall.

    Judges deduplicate.encoder where one is given, else hashes and thumbnails.
    """
    from lvd_curate.recipes import DedupRecipe

    config = merge(DedupRecipe, words, pool=pool)
    from lvd_curate.calibration import calibrate_pool, describe

    typer.echo(describe(calibrate_pool(config, out, sample), config))


@app.command("embed", short_help="Write a unit vector of each image.")
def embed_command(words: Words = None, pool: Pool = None, out: OutFile = ...) -> None:  # type: ignore[assignment]
    """Embed images: write id, source, path and a unit vector of each."""
    from lvd_curate.recipes import EmbedRecipe

    config = merge(EmbedRecipe, words, pool=pool)
    from lvd_curate.doors import embed

    typer.echo(f"{out}: {len(embed(config, out)):,} images")


@app.command("dedup", short_help="Find copies, and who stands for each group.")
def dedup_command(words: Words = None, pool: Pool = None, out: OutFile = ...) -> None:  # type: ignore[assignment]
    """Find copies: write which files are copies of which, and who stands for each group.

    By hashes and thumbnails, and by deduplicate.encoder where one is given. A pool may be embeddings:FILE.
    """
    from lvd_curate.recipes import DedupRecipe

    config = merge(DedupRecipe, words, pool=pool)
    from lvd_curate.doors import dedup

    rows = dedup(config, out)
    groups = rows.drop_nulls("component").group_by("component").len()
    copies = int(groups["len"].sum()) - len(groups)
    typer.echo(f"{out}: {len(rows):,} files, {len(groups):,} groups, {copies:,} near-duplicates")


@app.command("retrieve", short_help="Find what is like the seeds.")
def retrieve_command(
    words: Words = None,
    pool: Pool = None,
    seeds: Seeds = None,
    out: OutFile = ...,  # type: ignore[assignment]
) -> None:
    """Retrieve what is like the seeds: write which pool image each seed brought, at which rank and similarity."""
    from lvd_curate.recipes import RetrieveRecipe

    config = merge(RetrieveRecipe, words, pool=pool, seeds=seeds)
    from lvd_curate.doors import retrieve

    rows = retrieve(config, out)
    typer.echo(f"{out}: {len(rows):,} picks of {rows['id'].n_unique():,} images")


@app.command("balance", short_help="Choose images evenly over concepts.")
def balance_command(words: Words = None, pool: Pool = None, out: OutFile = ...) -> None:  # type: ignore[assignment]
    """Rebalance: choose rebalance.target_size images evenly over concepts (hierarchical k-means)."""
    from lvd_curate.recipes import BalanceRecipe

    config = merge(BalanceRecipe, words, pool=pool)
    from lvd_curate.doors import balance

    rows = balance(config, out)
    typer.echo(f"{out}: {int(rows['kept'].sum()):,} of {len(rows):,} images kept")


@app.command("audit", short_help="Say whether benchmarks are in a dataset.")
def audit_command(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="A folder that build-lvd wrote, or any images.", show_default=False)
    ],
    words: Words = None,
    against: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="A set to look for; repeatable.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Where finished work is kept.")] = Path("audit.work"),
    out: Annotated[Path | None, typer.Option(metavar="OUT.parquet", help="Write what was found, too.")] = None,
) -> None:
    """Say whether benchmarks are in a dataset: how many of their images have a copy there, and which."""
    from lvd_curate.recipes import AuditRecipe

    config = merge(AuditRecipe, words, against=against, dataset=dataset)
    from lvd_curate.audit import audit_dataset
    from lvd_curate.engine.artifacts import write_table

    if out is not None and not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.absolute().parent}; make it first")
    result = audit_dataset(config, work)
    if out is not None:
        write_table(result.found, out)
    for name, images, found in result.counts.select("set", "images", "found").rows():
        share = 100 * found / images
        typer.echo(f"{name}: {found:,} of {images:,} images have a copy in {dataset} ({share:.2f} %)")


@app.command("explain", short_help="Say why an image is in the dataset, or why not.")
def explain_command(
    dataset: Dataset,
    image: Annotated[
        str,
        typer.Argument(metavar="ID_OR_PATH", help="An image: its path in its set, or its id.", show_default=False),
    ],
) -> None:
    """Tell the story of one image: why it is in the dataset, or why not."""
    from lvd_curate.reporting.explain import explain_image

    typer.echo(explain_image(dataset, image))


@app.command("report")
def report_command(dataset: Dataset) -> None:
    """Write DATASET/report.html anew."""
    from lvd_curate.reporting.report import write_report

    write_report(dataset)
    typer.echo(str(dataset / "report.html"))


@app.command("sample-corpus", short_help="Render a world of images to try everything on.")
def sample_corpus_command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.", show_default=False)],
    images: Annotated[int, typer.Option(min=1, help="Images in the pool.")] = 3000,
    seed: Annotated[int, typer.Option(min=0, help="Of the whole world: equal seeds give equal bytes.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core.")] = 0,
) -> None:
    """Render a world of labelled images to try everything on, without any download."""
    from lvd_curate.engine.executors import available_cores
    from lvd_curate.sample_corpus import build_sample_corpus

    build_sample_corpus(out, images=images, seed=seed, workers=workers or available_cores())
    typer.echo(str(out))


def merge(schema: type[Recipe], words: list[str] | None, **given: list[str] | str | None) -> Recipe:
    """Build a recipe from its YAML file, the sets named by options, and key=value words."""
    from lvd_curate.config import build_config

    recipe, overrides = split_words(words or [])
    named = {key: name_sets(key, value) if isinstance(value, list) else value for key, value in given.items() if value}
    return build_config(schema, recipe, overrides, named)


def split_words(words: list[str]) -> tuple[Path | None, list[str]]:
    """Tell the recipe, one word ending in .yaml, from `key=value` words."""
    recipes = [word for word in words if "=" not in word]
    for word in recipes:
        if not word.endswith((".yaml", ".yml")):
            raise InputError(f"{word!r} is neither a recipe ending in .yaml nor a key=value word")
    if len(recipes) > 1:
        raise InputError(f"one recipe at most; {' and '.join(recipes)} were given")
    return Path(recipes[0]) if recipes else None, [word for word in words if "=" in word]


def name_sets(role: str, given: list[str]) -> dict[str, str]:
    """Turn [NAME=]PATH words into names and paths; a path without a name is named after its last part."""
    named: dict[str, str] = {}
    for word in given:
        name, separator, path = word.partition("=")
        if not separator:
            name, path = Path(word).name.removesuffix(".parquet").replace(":", "-"), word
        if not name or not path:
            raise InputError(f"--{role} {word!r}: write NAME=PATH")
        name = show_name(name)  # it is written into tables, as text
        if name in named:
            raise InputError(f"--{role}: two sets are named {name!r}; give each a name of its own, NAME=PATH")
        named[name] = path
    return named


def main() -> None:
    """Run the command; what the user can mend is one line and exit code 2."""
    try:
        tempfile.gettempdir()  # libraries ask for it in the middle of their imports: said at once
    except FileNotFoundError:
        fail("no folder takes temporary files; set TMPDIR to one that can be written and has space")
    try:
        app()
    except InputError as error:
        fail(str(error))
    except ShardsFailed as error:
        fail(f"{error}. Each failed three times; all others are finished. Give the same command again")
    except OSError as error:
        if error.errno not in UNUSABLE_PLACE:
            raise
        fail(
            f"{error.strerror}: {error.filename or 'while writing'}; what is finished is kept, start again when mended"
        )


def fail(message: str) -> None:
    """Say why, in one line, and leave."""
    typer.echo(f"curate: error: {show_name(message)}", err=True)
    raise SystemExit(2)
