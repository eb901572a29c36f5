"""The Hugging Face hub: whether it answers, ids of its datasets, and their images as a stream."""

import functools
import logging
import re
import socket
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from lvd_curate.errors import InputError

HUB_ID = re.compile(r"^hf:(?P<name>[\w.-]+/[\w.-]+)(?::(?P<split>[\w.-]+))?$")
WAYS = (
    "a folder of images, a .tar, .parquet or .arrow file, a folder of them or a pattern such as 'shards/*.tar', a "
    "Hugging Face dataset folder, a .txt list of paths, or hf:OWNER/NAME[:split]"
)
TIMEOUT = 5.0  # seconds
logger = logging.getLogger(__name__)


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
        logger.warning("the hub does not answer (%s): only what its cache holds can be used", error)
        constants.HF_HUB_OFFLINE = True
        if "datasets" in sys.modules:
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True


def parse_hub_id(location: str) -> tuple[str, str]:
    """Return name and split of a hub id; InputError for what is none."""
    match = HUB_ID.match(location)
    if match is None:
        raise InputError(f"{location} is no hub id; give {WAYS}")
    return match["name"], match["split"] or "train"


def stream_hub(location: str, skip: int, batch_size: int) -> Iterator[list[dict[str, Any]]]:
    """Yield batches of `bytes` and `path` of a hub dataset's first image column, behind the first `skip` rows.

    Raises InputError when the hub cannot be reached, is lost on the way or does not know the name, or the dataset holds
    no images.
    """
    import datasets

    name, split = parse_hub_id(location)
    prefer_cache_if_unreachable()
    read = skip
    try:
        stream = datasets.load_dataset(name, split=split, streaming=True)
        column = next(n for n, kind in (stream.features or {}).items() if isinstance(kind, datasets.Image))
        # row by row: before datasets 4.8.5 its own batches break where a row without an image meets one with
        rows = iter(stream.select_columns([column]).cast_column(column, datasets.Image(decode=False)).skip(skip))
        while batch := list(islice(rows, batch_size)):
            yield [row[column] or {"bytes": None, "path": None} for row in batch]
            read += len(batch)
    except StopIteration:
        raise InputError(f"{location}: the hub dataset {name} has no image column") from None
    except Exception as error:  # the hub's client raises many kinds for: not found, gated, no network
        first = (str(error) or type(error).__name__).splitlines()[0]
        if read:
            raise InputError(
                f"{location}: the stream broke behind {read:,} images ({first}); they are kept: give the same command "
                "again to go on from there"
            ) from error
        raise InputError(f"{location} cannot be reached ({first}); give {WAYS}") from error
