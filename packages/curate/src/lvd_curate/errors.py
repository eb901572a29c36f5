"""What the command says in one line instead of a traceback."""

from collections.abc import Mapping


class InputError(ValueError):
    """What the user gave cannot be used; the message names the value and the way out."""


class ShardsFailed(Exception):
    """Shards that failed three times each; all others are finished."""

    def __init__(self, errors: Mapping[int, str]) -> None:
        super().__init__("; ".join(f"piece {number}: {error}" for number, error in errors.items()))
        self.errors = errors
