"""Whether the model hub answers, asked once: a machine without a network learns it in seconds, not minutes."""

from __future__ import annotations

import functools
import os
import socket
import sys
from urllib.parse import urlsplit

TIMEOUT = 5.0  # seconds


@functools.cache
def prefer_cache_if_unreachable() -> None:
    """Switch the hub's client to its local cache where the hub does not answer: it would retry for 23 s per file."""
    from huggingface_hub import constants

    behind_proxy = any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"))
    if constants.HF_HUB_OFFLINE or behind_proxy:
        return
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=TIMEOUT).close()
    except OSError as error:
        print(f"the hub does not answer ({error}): only what its cache holds can be used", file=sys.stderr)
        constants.HF_HUB_OFFLINE = True
        if "datasets" in sys.modules:
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True
