"""The command `pretrain RECIPE [key=value ...]`, alone or under `accelerate launch`."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import tempfile
from typing import Annotated

import typer

from lvd_pretrain import __version__
from lvd_pretrain.errors import InputError, printable
from lvd_pretrain.signals import LOST_WORKER

DISK_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG),
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def show_version(asked: bool) -> None:
    """Print the version and end."""
    if asked:
        typer.echo(f"lvd-pretrain {__version__}")
        raise typer.Exit


def show_launch_file(name: str | None) -> None:
    """Print where a launch file lies and end."""
    if name is not None:
        from lvd_pretrain.recipes import find_launch_file

        typer.echo(find_launch_file(name))
        raise typer.Exit


@app.command()
def pretrain(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE|KEY=VALUE",
            help="A recipe, by path or name, and settings that override it.",
            show_default=False,
        ),
    ] = None,
    plan: Annotated[
        int | None,
        typer.Option(min=1, metavar="GPUS", help="Print memory, disk and time of the run on so many GPUs, and stop."),
    ] = None,
    launch_file: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", callback=show_launch_file, help="Print where the launch file 1gpu, 8gpu or multinode lies."
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Train a vision transformer on images without labels (DINOv2).

    The run folder out= receives config.yaml, metrics.jsonl, checkpoints/ and model/. The same command started again
    goes on from the newest checkpoint. docs/reference/pretrain-config.md lists every setting.

    Example: accelerate launch pretrain tiny data.path=images out=runs/first

    Example: pretrain vitl14 --plan 8
    """
    words = words or []
    if not words:
        raise InputError("no recipe and no settings; try: pretrain tiny data.path=IMAGES out=runs/first")
    from lvd_pretrain.recipes import build_config, find_recipe

    recipe = find_recipe(words[0]) if "=" not in words[0] else None
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve the workers
    config = build_config(recipe, words[1:] if recipe else words)
    if plan is not None:
        from lvd_pretrain.plan import plan_run, show_plan

        print(show_plan(plan_run(config, plan)))
        return
    from lvd_pretrain.train import pretrain as run

    try:
        model = run(config) / "model"
    except OSError as error:
        if error.errno in DISK_ERRORS:
            error.filename = error.filename or config.out  # a write that fails does not say to which file
        raise
    if os.environ.get("RANK", "0") == "0":  # one line, however many ranks
        print(model)


def main() -> None:
    """Entry point: what the user got wrong is one line and exit code 2, our own mistakes keep their traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        tempfile.gettempdir()  # libraries ask for it in the middle of their imports: said at once
    except FileNotFoundError:
        _stop("no folder takes temporary files; set TMPDIR to one that can be written and has space")
    try:
        app()
    except (InputError, FloatingPointError) as error:  # the second: a diverged run, stopped before the step
        _stop(str(error))
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        _stop(f"{error.filename or 'output'}: {error.strerror}; what was published before is whole")
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):  # one that misses its worker, and no other
            raise
        _stop(LOST_WORKER)
    except KeyboardInterrupt:
        sys.exit(130)


def _stop(message: str) -> None:
    signal.signal(
        signal.SIGCHLD, signal.SIG_DFL
    )  # PyTorch's handler would tell of a lost worker again, with a traceback
    line = message.strip().splitlines()[-1]  # an error of a data worker arrives with its traceback as text
    print(f"pretrain: error: {printable(line.removeprefix('lvd_pretrain.errors.InputError: '))}", file=sys.stderr)
    sys.exit(2)
