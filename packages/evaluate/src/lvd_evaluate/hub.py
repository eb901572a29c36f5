"""The model hub: asked once whether it answers, so that a machine without network fails in seconds; told when lost."""

from __future__ import annotations

import functools
import logging
import socket
import sys
from urllib.parse import urlsplit

TIMEOUT = 5.0  # seconds
# Kinds of exceptions that tell of a network: Python's own, then those of httpx and of requests, by name: which of the
# two the hub's client is built on, and under which name that is installed, changes with its versions.
OF_A_NETWORK = {"ConnectionError", "TimeoutError", "gaierror", "TransportError", "Timeout", "ChunkedEncodingError"}
logger = logging.getLogger(__name__)


@functools.cache
def prefer_cache_if_unreachable() -> None:
    """Switch the hub's client to its local cache when the hub cannot be reached (it would retry for 45 s per file)."""
    from urllib.request import getproxies

    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE or {address.scheme, "all"} & set(getproxies()):  # a proxy is asked by name, not here
        return
    port = address.port or (80 if address.scheme == "http" else 443)  # a mirror of the house may have no TLS
    try:
        socket.create_connection((address.hostname or "", port), timeout=TIMEOUT).close()
    except OSError as error:
        logger.info("the model hub does not answer (%s): only files already in its cache can be used", error)
        constants.HF_HUB_OFFLINE = True
        if "datasets" in sys.modules:
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True


def is_lost_connection(error: BaseException | None) -> bool:
    """Whether a network stands behind an exception, however many libraries have wrapped it."""
    while error is not None:
        if OF_A_NETWORK & {kind.__name__ for kind in type(error).__mro__}:
            return True
        error = error.__cause__ or error.__context__
    return False
