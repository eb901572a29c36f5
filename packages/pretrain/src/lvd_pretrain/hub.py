"""Whether the model hub answers, asked once: a machine without a network learns it in seconds, not minutes."""

from __future__ import annotations

import functools
import socket
import sys
from urllib.parse import urlsplit

TIMEOUT = 5.0  # seconds


@functools.cache
def prefer_cache_if_unreachable() -> None:
    """Switch the hub's client to its local cache where the hub does not answer: it would retry for 23 s per file."""
    from urllib.request import getproxies

    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE or {address.scheme, "all"} & set(getproxies()):  # a proxy is asked by name, not here
        return
    port = address.port or (80 if address.scheme == "http" else 443)  # a mirror of the house may have no TLS
    try:
        socket.create_connection((address.hostname or "", port), timeout=TIMEOUT).close()
    except OSError as error:
        print(f"the hub does not answer ({error}): only what its cache holds can be used", file=sys.stderr)
        constants.HF_HUB_OFFLINE = True
        if "datasets" in sys.modules:
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True
