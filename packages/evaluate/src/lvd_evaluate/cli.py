"""The command `evaluate`: a command per probe, benchmark, visualize, validate, tasks, report."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lvd_evaluate import __version__
from lvd_evaluate.errors import InputError
from lvd_evaluate.terminal import end_on_sigterm, log_plainly, naming_writes, one_line_per_error, printable_lines

if TYPE_CHECKING:
    from lvd_evaluate.recipes import Assignment

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Measure frozen vision features with the protocols of DINOv2, beside a baseline.",
)


def show_version(asked: bool) -> None:
    """Print the version and end."""
    if asked:
        typer.echo(f"lvd-evaluate {__version__}")
        raise typer.Exit


@app.callback()
def configure(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Take the words that stand before a command."""


CKPT = "The model under test: a run or model folder, a file of Meta's, or any SPEC."
DATA = "Labelled images: a folder or hub id with both splits, or one value per split."
Data = Annotated[list[str], typer.Option(metavar="[train=|test=]PATH", help=DATA)]
Baseline = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SPEC",
        help="Compare with: a folder, Meta's .pth, transformers:ID_OR_DIR, timm:NAME[/FILE], "
        "open_clip:NAME/TAG_OR_FILE, untrained:FOLDER_OR_FILE, pixels[:SIZE]. Repeatable.",
    ),
]
Out = Annotated[
    Path, typer.Option(metavar="DIR", help="Receives results.jsonl, report.html, predictions/ and features/.")
]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RECIPE.yaml|KEY=VALUE",
        help="A recipe, and settings that override it.",
        show_default=False,
    ),
]
DEFAULT_OUT = Path("results")

PROBES = {  # command: what it does and an example
    "knn": (
        "Weighted k-nearest-neighbour vote on frozen features.",
        "evaluate knn --ckpt runs/tiny --data corpus --baseline pixels knn.neighbours=[5,20]",
    ),
    "linear": (
        "Linear heads on frozen features, 52 at once, the best chosen without looking at test.",
        "evaluate linear --ckpt runs/tiny --data corpus --baseline untrained:runs/tiny",
    ),
    "logistic": (
        "Logistic regression on frozen features, 45 strengths of L2, the best chosen without looking at test.",
        "evaluate logistic --ckpt runs/tiny --data corpus data.metric=mean_class",
    ),
    "few_shot_knn": (
        "The nearest-neighbour vote with a few train images per class, drawn several times.",
        "evaluate few-shot-knn --ckpt runs/tiny --data corpus few_shot.per_class=[1,5]",
    ),
    "few_shot_logistic": (
        "Logistic regression on a few train images per class, drawn several times.",
        "evaluate few-shot-logistic --ckpt runs/tiny --data corpus few_shot.tries=10",
    ),
    "segmentation": (
        "A linear layer on frozen patch tokens that names the class of every pixel.",
        "evaluate segmentation --ckpt runs/tiny --data train=camvid-train.parquet --data test=camvid-val.parquet",
    ),
    "depth": (
        "Linear and DPT heads on frozen patch tokens that tell every pixel's distance.",
        "evaluate depth --ckpt runs/tiny --data train=rooms-train.parquet --data test=rooms-test.parquet",
    ),
    "retrieval": (
        "Find the same thing again: mean average precision over queries.",
        "evaluate retrieval --ckpt runs/tiny --data queries=PATH --data database=PATH",
    ),
    "video": (
        "Linear heads on the features of a clip's frames.",
        "evaluate video --ckpt runs/tiny --data clips",
    ),
    "robustness": (
        "How a head chosen on one test set fares on others: shifted, restricted in classes, corrupted.",
        "evaluate robustness --ckpt runs/tiny --data corpus --data sketches=PATH",
    ),
}


def _probe_command(probe: str) -> Callable[..., None]:
    def command(
        ckpt: Annotated[str, typer.Option(metavar="SPEC", help=CKPT)],
        data: Data,
        baseline: Baseline = None,
        out: Out = DEFAULT_OUT,
        words: Words = None,
    ) -> None:
        from lvd_evaluate.recipes import Assignment, build_config

        recipe, overrides = _split_words(words)
        assignment = Assignment(None, data, [probe], build_config(recipe, overrides))
        _run(ckpt, [] if baseline in (None, ["none"]) else baseline, [assignment], out)

    return command


for _probe, (_about, _example) in PROBES.items():
    app.command(
        _probe.replace("_", "-"),
        help=f"{_about}\n\nExample: {_example}",
        short_help=re.split("[,:.]", _about)[0] + ".",
    )(_probe_command(_probe))


@app.command(short_help="Several models, tasks and probes: one report.")
def benchmark(
    words: Words = None,
    ckpt: Annotated[str | None, typer.Option(metavar="SPEC", help=f"{CKPT} Default: the recipe's.")] = None,
    data: Annotated[
        list[str] | None, typer.Option(metavar="[train=|test=]PATH", help=f"{DATA} Without tasks in the recipe.")
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="Compare with, repeatable; none: nothing. Default: the recipe's, else the OpenCLIP of nearest size.",
        ),
    ] = None,
    probes: Annotated[str, typer.Option(help="Which probes, with commas. Without tasks in the recipe.")] = "knn,linear",
    out: Out = DEFAULT_OUT,
) -> None:
    """Models x tasks x probes, beside OpenCLIP: one table per task, one report.

    Example: evaluate benchmark --ckpt runs/tiny --data corpus --baseline untrained:runs/tiny --baseline pixels

    Example: evaluate benchmark all.yaml --ckpt runs/tiny
    """
    from lvd_evaluate.recipes import Assignment, build_benchmark, build_config, read_recipe

    recipe, overrides = _split_words(words)
    if recipe is not None and "tasks" in read_recipe(recipe):
        if data:
            raise InputError(f"--data {data[0]}: {recipe} has tasks of its own; give the data there")
        asked = build_benchmark(recipe, overrides)
        ckpt, assignments = ckpt or asked.ckpt, asked.assignments
        baseline = asked.baselines if baseline is None else baseline
    elif not data:
        raise InputError("--data: nothing to measure on; give --data PATH, or a recipe with tasks")
    else:
        config = build_config(recipe, overrides)
        assignments = [Assignment(None, data, list(filter(None, probes.split(","))), config)]
    if not ckpt:
        raise InputError("--ckpt: no model to measure; give --ckpt SPEC, or a recipe with a ckpt")
    _run(ckpt, [] if baseline == ["none"] else baseline, assignments, out)


@app.command(short_help="Draw what a model sees.")
def visualize(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|KEY=VALUE", help="Image files.", show_default=False)],
    ckpt: Annotated[str, typer.Option(metavar="SPEC", help=CKPT)],
    baseline: Baseline = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Receives pictures/; its report shows them.")] = DEFAULT_OUT,
) -> None:
    """Draw what a model sees: joint PCA of patch tokens, attention maps, parts matched between images.

    Example: evaluate visualize a.jpg b.jpg --ckpt runs/tiny visualize.image_size=448
    """
    from lvd_evaluate.pictures.visualize import run_visualize
    from lvd_evaluate.recipes import build_config

    words = [str(image) for image in images if "=" in str(image) and not image.exists()]
    files = [image for image in images if str(image) not in words]
    for picture in run_visualize(ckpt, files, out, build_config(None, words), baseline or []):
        typer.echo(picture)


@app.command(short_help="Read every row of a data set once; say what is wrong.")
def validate(
    data: Annotated[list[str], typer.Argument(metavar="DATA|KEY=VALUE", help="Values of --data.")],
    kind: Annotated[
        str, typer.Option(help="What probes would read: classification, segmentation, depth, retrieval or video.")
    ] = "classification",
) -> None:
    """Read every row of a data set once: labels, masks, depth units, broken images. Exit code 2 if it is unusable.

    Example: evaluate validate train=camvid-train.parquet test=camvid-val.parquet --kind segmentation data.void=11
    """
    from lvd_evaluate.recipes import build_config
    from lvd_evaluate.validation.validate import is_usable, tell, validate_data

    words = [word for word in data if word.startswith("data.")]
    findings = validate_data([word for word in data if word not in words], build_config(None, words).data, kind)
    typer.echo(printable_lines(tell(findings)))
    if not is_usable(findings):
        raise typer.Exit(2)


@app.command(short_help="List the paper's data sets, or print their recipe.")
def tasks(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Print these as a benchmark recipe.")
    ] = None,
) -> None:
    """List the data sets of the paper, or print a recipe that measures on some of them as it did.

    Example: evaluate tasks cifar10 ade20k > all.yaml
    """
    from lvd_evaluate.tasks.definitions import list_definitions, recipe_of

    typer.echo(recipe_of(names) if names else list_definitions())


@app.command(short_help="Print the tables again and write the report.")
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that holds results.jsonl.", show_default=False)
    ],
) -> None:
    """Print the tables again and write report.html and report.md from results.jsonl."""
    from lvd_evaluate.reporting.report import markdown_tables, write_report
    from lvd_evaluate.scoring.results import load_rows

    results = folder / "results.jsonl"
    if not results.is_file():
        raise InputError(f"{folder}: holds no results.jsonl; run evaluate benchmark with --out {folder} first")
    rows = load_rows(results)
    page = write_report(rows, folder)
    typer.echo(printable_lines(f"{markdown_tables(rows)}\n\nreport: {page}"))


def _split_words(words: list[str] | None) -> tuple[Path | None, list[str]]:
    """The recipe, if there is one, and the key=value words."""
    recipes = [word for word in words or [] if "=" not in word]
    if len(recipes) > 1:
        raise InputError(f"'{recipes[1]}': expected key=value, for example seed=1 (the recipe is {recipes[0]})")
    return Path(recipes[0]) if recipes else None, [word for word in words or [] if "=" in word]


def _run(ckpt: str, baselines: Sequence[str] | None, assignments: Sequence[Assignment], out: Path) -> None:
    from lvd_evaluate import ranks
    from lvd_evaluate.benchmark import run_benchmark
    from lvd_evaluate.plain_yaml import require_plain
    from lvd_evaluate.reporting.report import markdown_tables, write_report
    from lvd_evaluate.scoring.results import load_rows

    words = {"--data": [word for assignment in assignments for word in assignment.data], "--out": str(out)}
    require_plain({"--ckpt": ckpt, "--baseline": list(baselines or [])} | words, "evaluate")
    with ranks.together(), naming_writes(out):
        rows = run_benchmark(ckpt, baselines, assignments, out)
        if ranks.is_main():
            page = write_report(load_rows(out / "results.jsonl"), out)
            typer.echo(printable_lines(f"{markdown_tables(rows)}\n\nresults: {out / 'results.jsonl'}\nreport: {page}"))


def main() -> None:
    """Entry point: what the user got wrong is one line and exit code 2, our own mistakes keep their traceback."""
    log_plainly()
    end_on_sigterm()
    with one_line_per_error():
        try:
            tempfile.gettempdir()  # libraries ask for it in the middle of their imports: said at once
        except FileNotFoundError:
            raise InputError(
                "no folder takes temporary files; set TMPDIR to one that can be written and has space"
            ) from None
        app()
