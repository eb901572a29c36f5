"""One clean pass of an encoder over a split, kept on disk shard by shard and never computed twice."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lvd_evaluate import ranks
from lvd_evaluate.config import FeaturesConfig
from lvd_evaluate.contracts import Encoder, Features, Split
from lvd_evaluate.errors import InputError
from lvd_evaluate.images import MAX_PIXELS, to_rgb
from lvd_evaluate.progress import track
from lvd_evaluate.publish import publish_bytes, publish_folder

CODE_VERSION = 3  # raise when the same inputs would give other numbers
NUM_LAYERS = 4  # class tokens of the last four blocks: all that the linear grid reads
READ_AHEAD = 3  # batches decoded while one is encoded
logger = logging.getLogger(__name__)


def extract_features(encoder: Encoder, split: Split, store: Path, config: FeaturesConfig) -> Features:
    """Open the stored features of (encoder, split), computing the shards that are missing.

    Several processes take every world-size-th shard each and all open the whole; the store must be one folder to all.

    Raises:
        InputError: an image cannot be decoded, or the encoder gives values that are not finite.
    """
    identity = describe_pass(encoder, split, config)
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]
    folder = store / key
    if ranks.is_main():
        publish_bytes(folder / "manifest.json", json.dumps(identity, indent=2).encode())
    bounds = [(start, min(start + config.shard_size, len(split))) for start in range(0, len(split), config.shard_size)]
    mine = [bounds[index] for index in ranks.my_rows(len(bounds))]
    missing = [(start, stop) for start, stop in mine if not _shard(folder, start, stop).is_dir()]
    todo, total = (sum(stop - start for start, stop in rows) for rows in (missing, mine))
    with ranks.all_or_none():  # after which every shard is there
        if missing:
            with track(f"{encoder.name}, {split.name}", total, "images", total - todo) as advance:
                for start, stop in missing:
                    _fill_shard(encoder, split, _shard(folder, start, stop), range(start, stop), config, advance)
    return _open_shards([_shard(folder, start, stop) for start, stop in bounds], split)


def describe_pass(encoder: Encoder, split: Split, config: FeaturesConfig) -> dict[str, object]:
    """Everything that the numbers depend on; a change of any is a new entry of the store."""
    return {
        "code_version": CODE_VERSION,
        "loader": encoder.loader,
        "model": encoder.fingerprint,
        "split": split.fingerprint,
        "rows": len(split),
        "resize": encoder.resize_size,
        "crop": encoder.image_size,
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "layers": min(NUM_LAYERS, encoder.num_layers),
        "precision": config.precision,
    }


def transform_image(content: bytes, resize: int, crop: int) -> np.ndarray:
    """Decode, resize the short side (bicubic, antialiased), cut the centre square: uint8 [3, crop, crop].

    Raises:
        InputError: the bytes are no image, are cut short, or would unpack into a bomb.
    """
    from PIL import Image

    try:
        source = Image.open(io.BytesIO(content))
        short = min(source.size)
        width, height = (resize * side // short for side in source.size)  # rounded down, as torchvision and the paper
        if max(source.width * source.height, width * height) > MAX_PIXELS:
            raise InputError(f"is a DecompressionBomb: {source.width}x{source.height}, resized {width}x{height} pixels")
        image = to_rgb(source).resize((width, height), Image.Resampling.BICUBIC)
    except InputError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever a broken file drives them into
        raise InputError(f"cannot be decoded ({type(error).__name__}: {error})") from error
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    return np.asarray(image.crop((left, top, left + crop, top + crop))).transpose(2, 0, 1)  # [3, crop, crop]


def _fill_shard(
    encoder: Encoder, split: Split, shard: Path, rows: range, config: FeaturesConfig, advance: Callable[[int], None]
) -> None:
    start = time.perf_counter()
    columns: dict[str, list[Tensor]] = {"cls": [], "patch_mean": []}
    for images in _batches(encoder, split, rows, config):
        for name, column in encode_batch(encoder, images, config.precision).items():
            columns[name].append(column)
        advance(len(images))
    with publish_folder(shard) as folder:
        for name, parts in columns.items():
            if parts:
                _save_array(folder / f"{name}.npy", _to_storage(torch.cat(parts), encoder, name))
        _save_array(folder / "label.npy", split.labels[rows.start : rows.stop])
        _save_array(folder / "id.npy", split.ids[rows.start : rows.stop])
        (folder / "timing.json").write_text(json.dumps({"seconds": time.perf_counter() - start}))


def _save_array(path: Path, array: np.ndarray) -> None:
    """Write .npy through Python's own file: numpy's direct write drops the errno that tells a full disk."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    path.write_bytes(buffer.getbuffer())


def encode_batch(encoder: Encoder, images: Tensor, precision: str) -> dict[str, Tensor]:
    """Columns of a uint8 batch [B, 3, S, S]: cls [B, L, D] and, with patches, patch_mean [B, D]; float32."""
    with torch.autocast(encoder.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        layers = encoder.encode(images, NUM_LAYERS)
    columns = {"cls": torch.stack([tokens.cls for tokens in layers], dim=1)}  # [B, L, D]
    if layers[-1].patches is not None:
        columns["patch_mean"] = layers[-1].patches.float().mean(dim=(1, 2))  # [B, D]
    return {name: column.float().cpu() for name, column in columns.items()}


def _batches(encoder: Encoder, split: Split, rows: range, config: FeaturesConfig) -> Iterator[Tensor]:
    """Decoded batches [B, 3, S, S] in order, a few of them decoded ahead by threads (Pillow frees the GIL)."""

    def decode(index: int, content: bytes) -> np.ndarray:
        try:
            return transform_image(content, encoder.resize_size, encoder.image_size)
        except InputError as error:
            raise InputError(f"{split.name} image {index} (sha256 {split.ids[index][:12]}) {error}") from error

    with ThreadPoolExecutor(config.threads or os.cpu_count()) as pool:
        waiting: deque[list[Future[np.ndarray]]] = deque()
        starts = iter(range(rows.start, rows.stop, config.batch_size))
        try:
            while True:
                for start in itertools.islice(starts, READ_AHEAD - len(waiting)):
                    stop = min(start + config.batch_size, rows.stop)
                    waiting.append(
                        [pool.submit(decode, start + i, content) for i, content in enumerate(split.read(start, stop))]
                    )
                if not waiting:
                    return
                yield torch.from_numpy(np.stack([future.result() for future in waiting.popleft()]))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _to_storage(column: Tensor, encoder: Encoder, name: str) -> np.ndarray:
    if not column.isfinite().all():
        raise InputError(
            f"{encoder.name}: {name} features are not finite; the checkpoint has diverged or does not fit its code"
        )
    half = column.half()
    if half.isfinite().all():
        return half.numpy()
    logger.warning("%s: %s features exceed the range of float16 and are stored as float32", encoder.name, name)
    return column.numpy()


def _open_shards(shards: list[Path], split: Split) -> Features:
    def column(name: str) -> np.ndarray | None:
        files = [shard / f"{name}.npy" for shard in shards]
        return np.concatenate([np.load(file) for file in files]) if files[0].exists() else None

    cls, patch_mean, labels, ids = (column(name) for name in ("cls", "patch_mean", "label", "id"))
    assert cls is not None
    assert labels is not None
    assert ids is not None
    if not np.array_equal(ids, split.ids):
        raise InputError(f"{shards[0].parent}: stored for other images; delete this folder and start again")
    seconds = sum(json.loads((shard / "timing.json").read_text())["seconds"] for shard in shards)
    return Features(
        cls=torch.from_numpy(cls),
        patch_mean=None if patch_mean is None else torch.from_numpy(patch_mean),
        labels=torch.from_numpy(labels),
        seconds=seconds,
        images_per_second=len(labels) / seconds,
    )


def _shard(folder: Path, start: int, stop: int) -> Path:
    return folder / f"rows-{start:09d}-{stop:09d}"
