"""The command `evaluate`: knn, linear, benchmark, report."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lvd_evaluate.errors import InputError

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR}

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Measure frozen vision features with the protocols of DINOv2, beside a baseline.",
)

Ckpt = Annotated[str, typer.Option(metavar="SPEC", help="The model under test: a run or model folder, or any SPEC.")]
Data = Annotated[
    list[str],
    typer.Option(
        metavar="[train=|test=]PATH",
        help="Labelled images: a folder or hub id with both splits, or one value per split.",
    ),
]
Baseline = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SPEC",
        help="Compare with: a folder, transformers:ID_OR_DIR, timm:NAME[/FILE], open_clip:NAME/TAG_OR_FILE, "
        "untrained:FOLDER, pixels[:SIZE]. Repeatable.",
    ),
]
Out = Annotated[
    Path, typer.Option(metavar="DIR", help="Receives results.jsonl, report.html, predictions/ and features/.")
]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE.yaml] [key=value ...]",
        help="Settings; each stands in lvd_evaluate/config.py.",
        show_default=False,
    ),
]
DEFAULT_OUT = Path("results")


@app.command()
def knn(ckpt: Ckpt, data: Data, baseline: Baseline = None, out: Out = DEFAULT_OUT, words: Words = None) -> None:
    """Weighted k-nearest-neighbour vote on frozen features.

    Example: evaluate knn --ckpt runs/tiny --data corpus --baseline pixels knn.neighbours=[5,20]
    """
    _measure(ckpt, data, baseline, ("knn",), out, words)


@app.command()
def linear(ckpt: Ckpt, data: Data, baseline: Baseline = None, out: Out = DEFAULT_OUT, words: Words = None) -> None:
    """Linear heads on frozen features, 52 at once, the best chosen without looking at test.

    Example: evaluate linear --ckpt runs/tiny --data corpus --baseline untrained:runs/tiny
    """
    _measure(ckpt, data, baseline, ("linear",), out, words)


@app.command()
def benchmark(
    ckpt: Ckpt,
    data: Data,
    baseline: Baseline = None,
    probes: Annotated[str, typer.Option(help="Which probes, with commas.")] = "knn,linear",
    out: Out = DEFAULT_OUT,
    words: Words = None,
) -> None:
    """Several probes on one feature pass per model: one table, one report.

    Example: evaluate benchmark --ckpt runs/tiny --data corpus --baseline untrained:runs/tiny --baseline pixels
    """
    _measure(ckpt, data, baseline, tuple(filter(None, probes.split(","))), out, words)


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that holds results.jsonl.", show_default=False)
    ],
) -> None:
    """Print the tables again and write report.html and report.md from results.jsonl."""
    from lvd_evaluate.report import markdown_tables, write_report
    from lvd_evaluate.results import load_rows

    results = folder / "results.jsonl"
    if not results.is_file():
        raise InputError(
            f"{folder}: holds no results.jsonl; run evaluate knn, linear or benchmark with --out {folder} first"
        )
    rows = load_rows(results)
    page = write_report(rows, folder)
    typer.echo(f"{markdown_tables(rows)}\n\nreport: {page}")


def _measure(
    ckpt: str,
    data: Sequence[str],
    baselines: Sequence[str] | None,
    probes: Sequence[str],
    out: Path,
    words: list[str] | None,
) -> None:
    from lvd_evaluate.recipes import build_config

    words = words or []
    recipes = [word for word in words if "=" not in word]
    if len(recipes) > 1:
        raise InputError(f"'{recipes[1]}': expected key=value, for example seed=1 (the recipe is {recipes[0]})")
    config = build_config(Path(recipes[0]) if recipes else None, [word for word in words if "=" in word])

    from lvd_evaluate.benchmark import run_benchmark
    from lvd_evaluate.report import markdown_tables, write_report
    from lvd_evaluate.results import load_rows

    rows = run_benchmark(ckpt, baselines or [], data, probes, out, config)
    page = write_report(load_rows(out / "results.jsonl"), out)
    typer.echo(f"{markdown_tables(rows)}\n\nresults: {out / 'results.jsonl'}\nreport: {page}")


def main() -> None:
    """Entry point: what the user got wrong is one line and exit code 2, our own mistakes keep their traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("lvd_evaluate").setLevel(logging.INFO)
    try:
        app()
    except InputError as error:
        _stop(str(error))
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        _stop(f"{error.filename or 'output'}: {error.strerror}; what was published before is whole")


def _stop(message: str) -> None:
    typer.echo(f"evaluate: error: {message}", err=True)
    sys.exit(2)
