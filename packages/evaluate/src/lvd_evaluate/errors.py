"""The one error a user is meant to see, and how text that others wrote is shown."""

from __future__ import annotations

import re

# Control characters (a terminal obeys some), line separators, marks that turn the reading order, invalid UTF-8.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class InputError(ValueError):
    """Something the user gave cannot be used; the message names the value and the way out."""


def printable(text: str) -> str:
    r"""Text on one line that a terminal only shows: white space becomes a space, the rest `\x1b`."""
    return UNPRINTABLE.sub(
        lambda found: " " if found[0].isspace() else found[0].encode("unicode_escape").decode(), text
    )
