"""The one error a user is meant to see."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message names the value and the way out."""
