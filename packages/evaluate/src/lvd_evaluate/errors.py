"""The one exception that users are meant to see."""


class InputError(ValueError):
    """What the user gave cannot be used; the message names the value and the way out."""
