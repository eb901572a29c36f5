"""Files seen from outside: names as text for people, and stamps that tell whether a file is still the same."""

import os
import re
from stat import S_ISREG

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")  # controls, line ends, reversals
NO_FILE = "no regular file"  # a pipe, a device or a folder named like a file: reading it could wait without end


def show_name(name: bytes | str) -> str:
    r"""Return a name as one line of text, whatever bytes it is made of: what cannot be shown is escaped (`\x1b`)."""
    raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    text = raw.decode("utf-8", "backslashreplace")
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
