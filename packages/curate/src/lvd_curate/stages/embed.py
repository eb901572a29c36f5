"""Embed: one unit vector per image from a frozen encoder.

Only the processes that embed load torch and the encoder, and each keeps them for its next shard.
"""

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from PIL import Image

from lvd_curate.columns import EMBEDDED
from lvd_curate.errors import InputError
from lvd_curate.inputs.embeddings_file import PREFIX, open_embeddings
from lvd_curate.inputs.images import UnusableImage, decode_rgb
from lvd_curate.inputs.locations import read_bytes

if TYPE_CHECKING:
    from lvd_curate.models.encoders import Encoder

VERSION = 1


def fingerprint_encoder(spec: str, device: str) -> str:
    """Load the encoder that SPEC names and hash its weights and preprocessing; InputError when it cannot be had."""
    if spec.startswith(PREFIX):
        return open_embeddings(spec).fingerprint()
    from lvd_curate.models.encoders import load_encoder

    model = load_encoder(spec, device)
    return f"{model.fingerprint()} on {model.device.type}"  # processors round differently: their vectors do not mix


def embed(files: pl.DataFrame, encoder: str, batch_size: int, precision: str, device: str) -> pl.DataFrame:
    """Return one EMBEDDED row per screened file, in its order; null where the vector is not finite.

    On a CPU each process computes with one thread: shards run side by side, and the sums do not depend on how many.
    """
    if encoder.startswith(PREFIX):
        return pl.DataFrame({"id": files["id"], "embedding": open_embeddings(encoder).lookup(files)}, schema=EMBEDDED)
    import torch

    from lvd_curate.models.encoders import load_encoder

    torch.set_num_threads(1)
    model = load_encoder(encoder, device)
    vectors: list[bytes | None] = []
    for start in range(0, len(files), batch_size):
        vectors += embed_batch(model, files[start : start + batch_size], precision)
    return pl.DataFrame({"id": files["id"], "embedding": vectors}, schema=EMBEDDED)


def embed_batch(model: "Encoder", files: pl.DataFrame, precision: str) -> list[bytes | None]:
    """Decode and embed some files."""
    images: list[Image.Image] = []
    decoded = np.zeros(len(files), dtype=bool)
    for place, (path, data) in enumerate(zip(files["path"], read_bytes(files), strict=True)):
        if isinstance(data, OSError):
            raise InputError(f"{path} could be read when it was screened and no longer: {data}")
        with contextlib.suppress(UnusableImage):
            images.append(decode_rgb(data))
            decoded[place] = True
    if not images:
        return [None] * len(files)
    vectors = iter(model.embed(images, precision).astype("<f2"))  # [B, D]
    rows = [next(vectors) if there else None for there in decoded]
    return [row.tobytes() if row is not None and np.isfinite(row).all() else None for row in rows]


def set_aside(files: pl.DataFrame, error: str) -> pl.DataFrame:
    """Return EMBEDDED for files that no attempt could embed: no vector."""
    return files.select("id", embedding=pl.lit(None, pl.Binary))
