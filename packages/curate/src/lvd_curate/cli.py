"""The command `curate`: paths and a recipe in, one clear line out when they cannot be used."""

import errno
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from lvd_curate.errors import InputError

UNUSABLE_PLACE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}
UNUSABLE_PLACE |= {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}

app = typer.Typer(
    name="curate",
    help="Turn an uncurated image pool and a few seed sets into a balanced, de-duplicated, decontaminated dataset.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def configure() -> None:
    """Send what the stages have to say to stderr."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for library in ("httpx", "httpx2", "faiss", "datasets", "huggingface_hub", "timm"):
        logging.getLogger(library).setLevel(logging.ERROR)


@app.command("build-lvd")
def build_lvd_command(
    words: Annotated[list[str] | None, typer.Argument(metavar="[RECIPE.yaml] [KEY=VALUE]...")] = None,
    pool: Annotated[list[str] | None, typer.Option(metavar="[NAME=]PATH", help="Uncurated images; repeatable.")] = None,
    seeds: Annotated[list[str] | None, typer.Option(metavar="NAME=PATH", help="A curated set; repeatable.")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="A set to stay clear of; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="OUT", help="The dataset's folder; work goes to OUT.work.")] = ...,  # type: ignore[assignment]
) -> None:
    """Build a curated dataset: every step of the DINOv2 data pipeline.

    PATH is a folder of images, a Parquet file or folder with image bytes, a Hugging Face dataset folder or a hub id
    hf:OWNER/NAME[:split]. Knobs are key=value words such as embed.encoder=runs/tiny; all stand in docs/curate.md.
    """
    from lvd_curate.config import BuildConfig, build_config

    recipe, overrides = split_words(words or [])
    sets = {"pool": pool, "seeds": seeds, "exclude": exclude}
    given = {role: name_sets(role, words) for role, words in sets.items() if words}
    config = build_config(BuildConfig, recipe, overrides, given)
    from lvd_curate.pipeline import build_lvd

    built = build_lvd(config, out)
    typer.echo(f"{out}: {'built' if built else 'is there already, made from the same inputs and recipe'}")


@app.command("sample-corpus")
def sample_corpus_command(
    out: Annotated[Path, typer.Argument(metavar="OUT")],
    images: Annotated[int, typer.Option(min=1, help="Images in the pool.")] = 3000,
    seed: Annotated[int, typer.Option(min=0, help="Of the whole world: equal seeds give equal bytes.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core.")] = 0,
) -> None:
    """Render a world of labelled images to try everything on, without any download."""
    from lvd_curate.executors import available_cores
    from lvd_curate.sample_corpus import build_sample_corpus

    build_sample_corpus(out, images=images, seed=seed, workers=workers or available_cores())
    typer.echo(str(out))


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
        if name in named:
            raise InputError(f"--{role}: two sets are named {name!r}; give each a name of its own, NAME=PATH")
        named[name] = path
    return named


def main() -> None:
    """Run the command; what the user can mend is one line and exit code 2."""
    try:
        app()
    except InputError as error:
        fail(str(error))
    except OSError as error:
        if error.errno not in UNUSABLE_PLACE:
            raise
        fail(
            f"{error.strerror}: {error.filename or 'while writing'}; what is finished is kept, start again when mended"
        )


def fail(message: str) -> None:
    """Say why and leave."""
    typer.echo(f"curate: error: {message}", err=True)
    raise SystemExit(2)
