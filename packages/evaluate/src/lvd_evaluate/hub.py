"""Ask once whether the model hub answers, so that a machine without network fails in seconds, not minutes."""

from __future__ import annotations

import functools
import logging
import socket
import sys
from urllib.parse import urlsplit

TIMEOUT = 5.0  # seconds
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
