"""The words of the tables: roles, statuses and the columns that stages hand to one another."""

from typing import NamedTuple

import polars as pl

POOL, SEEDS, EXCLUDE = ROLES = ("pool", "seeds", "exclude")
KEPT, DROPPED = "kept", "dropped"

# One row per input file. `path` is its name for people: relative to its set, `TAR#MEMBER`, `TABLE#ROW` or
# `TABLE#ROW/NAME`. `file` is the operating system's own spelling of the file that holds it (bytes: names need not be
# UTF-8). `item` says where inside: null in a plain image file, the row in a Parquet or Arrow file, the first byte in a
# tar, where `size` is the number of bytes (null elsewhere). `stamp` changes when the file does. `fault` says why there
# is nothing to read, when that was plain to see without reading; null otherwise.
LISTING = pl.Schema(
    {
        "role": pl.String,
        "source": pl.String,
        "path": pl.String,
        "file": pl.Binary,
        "item": pl.Int64,
        "size": pl.Int64,
        "stamp": pl.Int64,
        "fault": pl.String,
    }
)


class Entry(NamedTuple):
    """One input file as a listing finds it: the columns of LISTING that do not depend on whose set it is."""

    path: str
    file: bytes
    stamp: int
    item: int | None = None
    size: int | None = None
    fault: str | None = None


# The listing's rows in their order, read once. `id` is the sha256 of the bytes; `reason` says why a file is no usable
# image, null when it is; `local_hash` and `global_hash` are the halves of the perceptual hash, null for an image
# without structure; `thumbnail` is 32x32 grey values.
SCREENED = pl.Schema(
    {
        "id": pl.String,
        "bytes": pl.Int64,
        "format": pl.String,
        "width": pl.Int32,
        "height": pl.Int32,
        "reason": pl.String,
        "local_hash": pl.UInt64,
        "global_hash": pl.UInt64,
        "thumbnail": pl.Binary,
    }
)

# Unit vectors as little-endian float16; null where the encoder gave no finite vector.
EMBEDDED = pl.Schema({"id": pl.String, "embedding": pl.Binary})

# What the moderation models say, null where none was asked. Faces are fractions of the upright image, best first.
FACE = pl.Schema([(name, pl.Float32()) for name in ("left", "top", "width", "height", "score")])
MODERATED = pl.Schema({"id": pl.String(), "nsfw": pl.Float32(), "faces": pl.List(pl.Struct(FACE))})

# Why an image left, said once by the stage that dropped it. `partner` is the image it was compared with.
DROPS = pl.Schema({"id": pl.String, "stage": pl.String, "reason": pl.String, "partner": pl.String, "score": pl.Float32})

# Which seed image brought which pool image; `rank` counts from 1 and is null where a whole cluster was chosen.
PICKS = pl.Schema(
    {
        "id": pl.String,
        "seed_set": pl.String,
        "mode": pl.String,
        "seed_id": pl.String,
        "rank": pl.Int32,
        "similarity": pl.Float32,
    }
)

LINEAGE = pl.Schema(
    {
        "id": pl.String,
        "role": pl.String,
        "source": pl.String,
        "path": pl.String,
        "status": pl.String,
        "stage": pl.String,
        "reason": pl.String,
        "partner_id": pl.String,
        "score": pl.Float32,
    }
)
