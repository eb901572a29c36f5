"""One clean pass of an encoder over a split, kept on disk shard by shard and never computed twice."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import logging
import shutil
import time
import zlib
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
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
READ_AHEAD = 3  # batches decoded while a GPU encodes one
FOUND_WHOLE = set[tuple[tuple[int, ...], ...]]()  # stamps of shards whose checksums this process has reckoned
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
    missing = [(start, stop) for start, stop in mine if not _is_whole(_shard(folder, start, stop))]
    todo, total = (sum(stop - start for start, stop in rows) for rows in (missing, mine))
    with ranks.all_or_none():  # after which every shard is there
        if missing:
            with track(f"{encoder.name}, {split.name}", total, "images", total - todo) as advance:
                _fill_shards(encoder, split, folder, missing, config, advance)
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


def _fill_shards(
    encoder: Encoder,
    split: Split,
    folder: Path,
    bounds: list[tuple[int, int]],
    config: FeaturesConfig,
    advance: Callable[[int], None],
) -> None:
    """Encode and publish shard after shard, all on one stream of decoded batches that never stops between them."""
    batches = [
        range(first, min(first + config.batch_size, stop))
        for start, stop in bounds
        for first in range(start, stop, config.batch_size)
    ]
    with closing(_decode(encoder, split, batches, config)) as decoded:
        began = time.perf_counter()
        for start, stop in bounds:
            columns: dict[str, list[Tensor]] = {"cls": [], "patch_mean": []}
            for images in itertools.islice(decoded, -(-(stop - start) // config.batch_size)):
                for name, column in encode_batch(encoder, images, config.precision).items():
                    columns[name].append(column)
                advance(len(images))
            with publish_folder(_shard(folder, start, stop)) as shard:
                for name, parts in columns.items():
                    if parts:
                        _save_array(shard / f"{name}.npy", _to_storage(torch.cat(parts).cpu(), encoder, name))
                _save_array(shard / "label.npy", split.labels[start:stop])
                _save_array(shard / "id.npy", split.ids[start:stop])
                ended = time.perf_counter()
                sums = {file.name: _checksum(file) for file in sorted(shard.iterdir())}
                (shard / "timing.json").write_text(json.dumps({"seconds": ended - began, "crc32": sums}))
            began = ended


def _save_array(path: Path, array: np.ndarray) -> None:
    """Write .npy through Python's own file: numpy's direct write drops the errno that tells a full disk."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    path.write_bytes(buffer.getbuffer())


def encode_batch(encoder: Encoder, images: Tensor, precision: str) -> dict[str, Tensor]:
    """Columns of a uint8 batch [B, 3, S, S]: cls [B, L, D] and, with patches, patch_mean [B, D].

    Both are float32 on the encoder's device: nothing waits for a GPU here.
    """
    with torch.autocast(encoder.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        layers = encoder.encode(images, NUM_LAYERS)
    columns = {"cls": torch.stack([tokens.cls for tokens in layers], dim=1)}  # [B, L, D]
    if layers[-1].patches is not None:
        columns["patch_mean"] = layers[-1].patches.float().mean(dim=(1, 2))  # [B, D]
    return {name: column.float() for name, column in columns.items()}


def _decode(encoder: Encoder, split: Split, batches: list[range], config: FeaturesConfig) -> Generator[Tensor]:
    """Batches uint8 [B, 3, S, S] in order, decoded by threads (Pillow frees the GIL).

    For a GPU a few batches are decoded ahead. On a CPU threads and network take turns: a network that computes on all
    cores waits, operation by operation, for the core that a decoder holds.
    """
    on_cpu, size = encoder.device.type == "cpu", encoder.image_size

    def place(index: int, content: bytes, slot: Tensor) -> None:
        try:
            slot.numpy()[:] = transform_image(content, encoder.resize_size, size)
        except InputError as error:
            raise InputError(f"{split.name} image {index} (sha256 {split.ids[index][:12]}) {error}") from error

    with ThreadPoolExecutor(config.threads or ranks.my_cores()) as pool:

        def submit(rows: range) -> tuple[Tensor, list[Future[None]]]:
            batch = torch.empty(len(rows), 3, size, size, dtype=torch.uint8, pin_memory=encoder.device.type == "cuda")
            files = zip(rows, split.read(rows.start, rows.stop), batch, strict=True)
            return batch, [pool.submit(place, *file) for file in files]

        waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()
        coming = iter(batches)
        try:
            while True:
                waiting.extend(map(submit, itertools.islice(coming, (1 if on_cpu else READ_AHEAD) - len(waiting))))
                if not waiting:
                    return
                batch, jobs = waiting.popleft()
                for job in jobs:
                    job.result()
                yield batch
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


def _is_whole(shard: Path) -> bool:
    """Whether a shard is there, as it was written; a damaged one is removed with a line, to be computed again.

    All of it is read, once per process as long as nobody writes to it: several probes open the same shards.
    """
    if not shard.is_dir():
        return False
    try:
        stamp = _stamp(shard)
        damaged = None if stamp in FOUND_WHOLE else _find_damage(shard)
    except (OSError, ValueError, AttributeError):
        damaged = "a file cannot be read"
    if damaged is None:
        FOUND_WHOLE.add(stamp)
        return True
    logger.warning("%s: damaged (%s), computed again", shard, damaged)
    shutil.rmtree(shard)
    return False


def _find_damage(shard: Path) -> str | None:
    """The first file that is not as it was written."""
    sums = json.loads((shard / "timing.json").read_text()).get("crc32", {})  # shards of version 0.1 have none
    return next((name for name, found in sums.items() if _checksum(shard / name) != found), None)


def _stamp(shard: Path) -> tuple[tuple[int, ...], ...]:
    """What changes when a file of the shard is written anew, or one comes or goes."""
    found = (file.stat() for file in sorted(shard.iterdir()))
    return tuple((each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in found)


def _checksum(file: Path) -> int:
    found = 0
    with open(file, "rb") as content:
        while block := content.read(1 << 20):
            found = zlib.crc32(block, found)
    return found
