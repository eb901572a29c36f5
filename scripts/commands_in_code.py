"""What can be typed, read from the typer applications: commands, their options, their help."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, get_args, get_type_hints

from typer.models import OptionInfo

TOOLS = ("curate", "pretrain", "evaluate")


class Word(NamedTuple):
    """One parameter of a command."""

    name: str  # --out, or nothing of an argument
    metavar: str
    default: str
    about: str


def list_commands() -> Iterator[tuple[str, list[Word]]]:
    """Every command of every tool, as it is typed, and its parameters."""
    for tool in TOOLS:
        for path, command in read_commands(tool):
            yield path, list(read_words(command.callback))


def read_commands(tool: str) -> Iterator[tuple[str, Any]]:
    """Commands of a tool, as they are typed (the tool's name alone where there is but one) and as typer holds them."""
    commands = importlib.import_module(f"lvd_{tool}.cli").app.registered_commands
    for command in commands:
        name = command.name or command.callback.__name__
        yield f"{tool} {name}" if len(commands) > 1 else tool, command


def read_words(callback: Callable[..., None]) -> Iterator[Word]:
    """Parameters of a command's function, whose annotations carry typer's Option or Argument."""
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, told = get_args(hints[name])
        option = isinstance(told, OptionInfo)
        metavar = told.metavar or (getattr(kind, "__name__", "") if isinstance(kind, type) else "text").upper()
        given = {inspect.Parameter.empty: "required", ...: "required", None: ""}
        default = given.get(parameter.default, f"`{parameter.default}`")
        yield Word(f"--{name.replace('_', '-')}" if option else "", metavar, default, plain(told.help))


def plain(text: str | None) -> str:
    """A help text on one line."""
    return " ".join((text or "").split())
