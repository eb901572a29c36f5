"""Hostile files that more than one of the tools is given: pickles, weights that unfold, YAML, what is no text."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path


class Malice:
    """Creates a file when it is unpickled; a relative path lies in the folder of whoever unpickles it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.trace,)


def short(value: object) -> str:
    """A parameter's id."""
    return repr(value)[:16]


def saved(content: object) -> bytes:
    """A file of PyTorch's."""
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def deflated() -> bytes:
    """A PyTorch file whose members unfold: a hundredth of the size here, a millionth elsewhere."""
    import torch

    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved({"zeros": torch.zeros(100_000)}))) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return packed.getvalue()


HOSTILE_YAML = {  # whatever the keys of the recipe; {trace} is the file that would be made
    "python tag": "seed: !!python/object/apply:os.system ['touch {trace}']",
    "billion laughs": "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10) if i else 'lol'}]\n" for i in range(12)),
    "key twice": "seed: 1\nseed: 2",
    "list": "- seed",
    "deep": "[" * 5_000,
    "binary": "\x00\x01\x02",
    "long number": "seed: " + "9" * 5000,
}


def make_huge(file: Path) -> None:
    file.touch()
    os.truncate(file, 100_000_000)


NO_TEXT: dict[str, Callable[[Path], object]] = {  # in the place of a recipe
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "huge": make_huge,
    "UTF-16": lambda file: file.write_text("seed: 1", "utf-16"),
}
