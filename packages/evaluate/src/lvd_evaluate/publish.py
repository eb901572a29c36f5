"""Files appear whole or not at all: write beside the target, fsync, rename. One command at a time writes a folder."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lvd_evaluate.errors import InputError


def publish_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)  # is there only if writing failed
    _sync_folder(path.parent)


@contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for file in partial.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        if path.exists():  # another process was faster; its content is the same
            shutil.rmtree(partial)
        else:
            partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def hold_folder(path: Path, *, hold: bool = True) -> Iterator[None]:
    """Keep other commands out of a folder whose files are read, changed and replaced; ends with the process at latest.

    Args:
        path: made if it is not there.
        hold: False for the processes of a command whose first process holds it.

    Raises:
        InputError: another command holds it.
    """
    path.mkdir(parents=True, exist_ok=True)
    if not hold:
        yield
        return
    with open(path / ".lock", "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: another command is writing here; wait for it or give another --out") from None
        yield


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
