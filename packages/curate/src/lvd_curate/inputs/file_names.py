"""Files seen from outside: names as text for people, and stamps that tell whether a file is still the same."""

import logging
import os
import re
from stat import S_ISREG

# Controls, line ends, marks and reversals of the writing direction, halves of letters that stand for no byte.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udc7f\udd00-\udfff]")
NO_FILE = "no regular file"  # a pipe, a device or a folder named like a file: reading it could wait without end


def show_name(name: bytes | str) -> str:
    r"""Return a name as one line of text, whatever bytes it is made of: what cannot be shown is escaped (`\x1b`)."""
    raw = escape(name).encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    return escape(raw.decode("utf-8", "backslashreplace"))


def show_text(text: str) -> str:
    """Return text of several lines with everything escaped that a terminal would not show but obey."""
    return "\n".join(map(show_name, text.split("\n")))


class PlainFormatter(logging.Formatter):
    """Lines of a log without a sign that a terminal would obey: they may name files of strangers."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, escaped."""
        return show_text(super().format(record))


def escape(text: str) -> str:
    """Write out what cannot be shown."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def stamp_file(file: bytes) -> int:
    """Return a number that changes when the file or the right to read it does: its times and its size, mixed.

    It decides what is read again, never what the dataset holds.
    """
    try:
        status = os.stat(file)
    except OSError:  # a broken link: screening will say so
        return 0
    mixed = (status.st_mtime_ns * 1_000_003 + status.st_ctime_ns) * 1_000_003 + status.st_size
    return mixed % (1 << 63)


def is_regular(file: bytes) -> bool:
    """Tell whether a file, or what a link leads to, can be opened without waiting; OSError when it is not there."""
    return S_ISREG(os.stat(file).st_mode)
