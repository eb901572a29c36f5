"""Screen: read every file once; keep its id, size and perceptual hash, or the reason why it is no usable image."""

import errno

import polars as pl

from lvd_curate.columns import EXCLUDE, SCREENED, SEEDS
from lvd_curate.config import ScreenConfig
from lvd_curate.copy_detection.hashing import content_id, perceptual_hash
from lvd_curate.inputs.images import UnusableImage, decode_thumbnail
from lvd_curate.inputs.locations import read_bytes

VERSION = 3
# Of an OSError: the mount or the machine fails, not the file. Written down as its fate, it would outlast the failure.
PASSING = {errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def screen(listing: pl.DataFrame, config: ScreenConfig) -> pl.DataFrame:
    """Return one SCREENED row per row of a LISTING, in its order. A bad file is a row with a reason, never an error."""
    rows = [screen_file(data, config) for data in read_bytes(listing)]
    return pl.DataFrame(rows, schema=SCREENED, orient="row")


def screen_file(data: bytes | OSError, config: ScreenConfig) -> tuple[object, ...]:
    """Return the SCREENED values of one file; raise the OSErrors that say nothing about the file itself."""
    if isinstance(data, OSError):
        if data.errno in PASSING:
            raise data
        return None, None, None, None, None, f"unreadable: {describe_error(data)}", None, None, None
    identity, size = content_id(data), len(data)
    try:
        seen = decode_thumbnail(
            data,
            min_side=config.min_side,
            max_pixels=config.max_pixels,
            max_aspect=config.max_aspect,
            keep_truncated=config.truncated == "keep",
        )
    except UnusableImage as reason:
        return identity, size, None, None, None, str(reason), None, None, None
    halves = perceptual_hash(seen.grey) or (None, None)
    return identity, size, seen.format, seen.width, seen.height, None, *halves, seen.grey.tobytes()


def set_aside(listing: pl.DataFrame, error: str) -> pl.DataFrame:
    """Return SCREENED for files that no attempt could screen: the error is their reason."""
    nothing = dict.fromkeys(SCREENED.names(), None) | {"reason": f"set aside: {error}"}
    return pl.DataFrame([nothing] * len(listing), schema=SCREENED)


def describe_error(error: OSError) -> str:
    """Say why a file cannot be read: in the system's words, or those of the library that met a damaged file."""
    return error.strerror or (str(error).splitlines() or [type(error).__name__])[0]


def find_exact_copies(files: pl.DataFrame, *, seeds_first: bool) -> pl.DataFrame:
    """Add a column `copy`: true where an earlier file has the same bytes.

    `files` has row, role and the columns of SCREENED. Seeds come before the pool when they are part of the dataset;
    otherwise each role is looked at alone, as excluded sets always are.
    """
    together = pl.col("role") if not seeds_first else pl.when(pl.col("role") == EXCLUDE).then(pl.lit(1)).otherwise(0)
    order = pl.col("role") != SEEDS
    return (
        files.with_columns(group=together)
        .sort(order, "row")
        .with_columns(copy=pl.int_range(pl.len()).over("group", "id") > 0)
        .with_columns(copy=pl.col("copy") & pl.col("id").is_not_null())
        .sort("row")
        .drop("group")
    )
