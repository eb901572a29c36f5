"""What a command says on a terminal: lines that show and never steer it, and one line where it ends before its time."""

from __future__ import annotations

import errno
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from lvd_evaluate.errors import InputError, printable

DISK_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG),
}


class PlainLines(logging.Formatter):
    """Messages as lines that a terminal only shows, whatever names of data and models they quote."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, line by line."""
        return printable_lines(super().format(record))


def printable_lines(text: str) -> str:
    """Text of several lines, each printable."""
    return "\n".join(map(printable, text.split("\n")))


def log_plainly() -> None:
    """Send what this package has to tell, and what others warn of, to stderr."""
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(PlainLines())
    logging.getLogger("lvd_evaluate").setLevel(logging.INFO)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its cache may go to a temporary folder unsaid


@contextmanager
def one_line_per_error() -> Iterator[None]:
    """End the command with exit code 2 where the user or the disk is at fault; bugs keep their traceback."""
    try:
        yield
    except InputError as error:
        stop(str(error))
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        stop(f"{error.filename or 'output'}: {error.strerror}; what was published before is whole")


@contextmanager
def naming_writes(out: Path) -> Iterator[None]:
    """Say where a write failed, which was below `out` if it does not say it itself."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_ERRORS:
            error.filename = error.filename or str(out)
        raise


def stop(message: str) -> NoReturn:
    """Say what is wrong and end the command."""
    print(f"evaluate: error: {printable(message)}", file=sys.stderr)
    sys.exit(2)


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does: other processes are ended and semaphores given back on the way."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # a second one ends it at once
    sys.exit(128 + number)
