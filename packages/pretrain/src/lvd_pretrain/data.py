"""Batches of crops: decoded and cropped in workers, every draw a function of the seed and the sample's position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from lvd_pretrain.augment import draw_photometry
from lvd_pretrain.config import DataConfig, PretrainConfig
from lvd_pretrain.crops import decode, multi_crop
from lvd_pretrain.errors import InputError
from lvd_pretrain.masks import batch_masks, masked_patches
from lvd_pretrain.order import Mixture, RankBatches, Shuffle, mixture_shares
from lvd_pretrain.signals import LOST_WORKER, leave_stopping_to_the_main_process
from lvd_pretrain.sources import ImageSource, encoded_image, open_images, source_members
from lvd_pretrain.streaming import Lane, StreamSource, open_stream

SAMPLE_STREAM, MASK_STREAM, REPLACEMENT_STREAM = range(3)  # independent random streams of one seed
REPLACEMENTS = 100  # unreadable images in a row after which a run gives up
LOCAL_VIEW = 2  # row of AugmentConfig's probabilities that local crops use


class Sample(NamedTuple):
    """The crops of one image."""

    position: int
    global_crops: list[Tensor]  # 2 of uint8 [3, S, S]
    local_crops: list[Tensor]  # L of uint8 [3, s, s]
    photometry: NDArray[np.float32]  # [2 + L, 7]
    skipped: int  # unreadable images met on the way


class Batch(NamedTuple):
    """One rank's batch of B images, crop-major."""

    global_crops: Tensor  # uint8 [2B, 3, S, S]
    local_crops: Tensor  # uint8 [L * B, 3, s, s]
    global_photometry: Tensor  # float32 [2B, 7]
    local_photometry: Tensor  # float32 [L * B, 7]
    masks: Tensor  # bool [2B, N]
    masked: Tensor  # int64 [M], where the flattened masks are True: found here, a GPU would make the host wait for it
    masked_weights: Tensor  # float32 [M], 1 / masked patches of the crop
    skipped: int

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        moved = {name: part.to(device, non_blocking=True) for name, part in self._asdict().items() if name != "skipped"}
        return self._replace(**moved)


class CropDataset(Dataset[Sample]):
    """Samples by position (order.py)."""

    def __init__(self, source: ImageSource, config: PretrainConfig) -> None:
        self.source, self.config = source, config
        self.order = build_order(source, config)

    def __getitem__(self, position: int) -> Sample:
        image, skipped = self._read(position)
        return cut_sample(image, position, skipped, self.config)

    def _read(self, position: int) -> tuple[Tensor, int]:
        """The image at `position`, or a substitute drawn for it when it cannot be read, and how many could not."""
        index, substitutes = self.order(position), None
        for skipped in range(REPLACEMENTS):
            try:
                return decode(self.source.read(index)), skipped
            except (OSError, ValueError) as error:
                why = error
                substitutes = substitutes or np.random.default_rng([self.config.seed, REPLACEMENT_STREAM, position])
                index = self.order.substitute(position, substitutes)
        raise InputError(f"data.path={self.config.data.path}: {REPLACEMENTS} images in a row could not be read ({why})")


class StreamBatches(IterableDataset[Batch]):
    """One rank's batches of a stream; with W workers, the rank's lane `step % W` gives the batch of `step`."""

    def __init__(self, source: StreamSource, config: PretrainConfig, start: int, rank: int, world: int) -> None:
        self.source, self.config, self.start, self.rank, self.world = source, config, start, rank, world
        self.collate = Collate(config, world)

    def __iter__(self) -> Iterator[Batch]:
        config, worker = self.config, get_worker_info()
        workers = max(1, config.data.workers)
        first = self.start + (worker.id if worker else 0)
        batch, seed = config.optim.batch_size, config.seed
        lanes, lane = self.world * workers, self.rank * workers + first % workers
        cells = Lane(self.source, lane, lanes, config.data.shuffle_buffer, batch, seed)
        for _ in range(first // workers * batch):
            cells.take()
        for step in range(first, config.optim.steps, workers):
            place = (step * self.world + self.rank) * batch
            yield self.collate([self._sample(cells, position) for position in range(place, place + batch)])

    def _sample(self, cells: Lane, position: int) -> Sample:
        """The lane's next image, or another of its buffer when it cannot be read."""
        cell, substitutes = cells.take(), None
        for skipped in range(REPLACEMENTS):
            try:
                return cut_sample(decode(encoded_image(cell, self.source.home)), position, skipped, self.config)
            except (OSError, ValueError) as error:
                why = error
                substitutes = substitutes or np.random.default_rng([self.config.seed, REPLACEMENT_STREAM, position])
                cell = cells.substitute(substitutes)
        raise InputError(f"data.path={self.source.path}: {REPLACEMENTS} images in a row could not be read ({why})")


def cut_sample(image: Tensor, position: int, skipped: int, config: PretrainConfig) -> Sample:
    """Crops and photometry of an image uint8 [3, H, W], every draw from the seed and the position."""
    rng = np.random.default_rng([config.seed, SAMPLE_STREAM, position])
    global_crops, local_crops = multi_crop(image, config.crops, rng)
    views = [0, 1] + [LOCAL_VIEW] * len(local_crops)
    photometry = np.stack([draw_photometry(view, config.augment, rng) for view in views])
    return Sample(position, global_crops, local_crops, photometry, skipped)


def build_order(source: ImageSource, config: PretrainConfig) -> Shuffle | Mixture:
    """Which image stands at a position: all in turn, or sources by `data.weights`.

    Raises:
        InputError: the weights name other sources than the data have, or one too small to be drawn.
    """
    weights = config.data.weights
    if not weights:
        return Shuffle(len(source), config.seed)
    members = source_members(source, config.data)
    unknown, missing = sorted(weights.keys() - members.keys()), sorted(members.keys() - weights.keys())
    if unknown:
        raise InputError(f"data.weights.{unknown[0]}: no such source; there are {', '.join(sorted(members)[:20])}")
    if missing:
        raise InputError(f"data.weights leaves out the source '{missing[0]}': give it a weight, 0 to leave it out")
    names = [name for name, weight in weights.items() if weight > 0]
    shares = mixture_shares([weights[name] for name in names])
    if not all(shares):
        raise InputError(f"data.weights.{names[shares.index(0)]}: below one sample in 65,536: raise it or set it to 0")
    return Mixture([members[name] for name in names], shares, config.seed)


class Collate:
    """Stacks samples crop-major and draws their masks: this rank's rows of the global batch's."""

    def __init__(self, config: PretrainConfig, world: int = 1) -> None:
        self.config, self.world = config, world

    def __call__(self, samples: list[Sample]) -> Batch:
        """One rank's batch."""
        config = self.config
        masks = self._masks(samples[0].position, len(samples))
        masked, weights = masked_patches(masks)
        photometry = torch.from_numpy(np.stack([sample.photometry for sample in samples], axis=1))  # [2 + L, B, 7]
        return Batch(
            global_crops=_stack([sample.global_crops for sample in samples], config.crops.global_size),
            local_crops=_stack([sample.local_crops for sample in samples], config.crops.local_size),
            global_photometry=photometry[:2].flatten(0, 1),
            local_photometry=photometry[2:].flatten(0, 1),
            masks=torch.from_numpy(masks),
            masked=torch.from_numpy(masked),
            masked_weights=torch.from_numpy(weights),
            skipped=sum(sample.skipped for sample in samples),
        )

    def _masks(self, position: int, count: int) -> NDArray[np.bool_]:
        """Masks of both global crops of `count` images from `position` on, [2 * count, N]."""
        config, images = self.config, count * self.world
        grid = config.crops.global_size // config.model.patch_size
        if config.distill.teacher and config.distill.patches == "all":
            return np.ones((2 * count, grid * grid), dtype=bool)
        place = position % images  # of this rank's first image in the global batch
        rows = [view * images + place + row for view in range(2) for row in range(count)]
        seed = [config.seed, MASK_STREAM, position - place]
        return batch_masks(2 * images, grid, config.masks.probability, config.masks.ratio, seed, rows)


def _stack(crops: list[list[Tensor]], size: int) -> Tensor:
    """Crop-major uint8 [N, 3, size, size], channels last in memory as the crops are."""
    ordered = [crop.permute(1, 2, 0) for views in zip(*crops, strict=True) for crop in views]
    pixels = torch.empty(len(ordered), size, size, 3, dtype=torch.uint8)
    if get_worker_info():
        pixels.share_memory_()  # the way to the training process: a batch stacked elsewhere would be copied there
    if ordered:
        torch.stack(ordered, out=pixels)
    return pixels.permute(0, 3, 1, 2)


def open_source(config: DataConfig) -> ImageSource | StreamSource:
    """What `data` describes, read by index or as a stream."""
    return open_stream(config) if config.streaming else open_images(config)


def source_facts(source: ImageSource | StreamSource, config: PretrainConfig, world: int) -> dict[str, Any]:
    """What a run writes beside its weights, and must find again to go on."""
    if isinstance(source, StreamSource):
        readers = [world, max(1, config.data.workers)]
        return {"dataset": source.fingerprint, "images": "streamed", "readers": readers}
    return {"dataset": source.fingerprint, "images": len(source)}


def build_loader(
    source: ImageSource | StreamSource, config: PretrainConfig, start: int, rank: int, world: int
) -> DataLoader[Any]:
    """Batches of steps `start` to `optim.steps` for one rank.

    Raises:
        InputError: fewer images than one global batch.
    """
    batch_size = config.optim.batch_size
    if isinstance(source, StreamSource):
        return DataLoader(
            StreamBatches(source, config, start, rank, world),
            batch_size=None,  # batches come whole
            num_workers=config.data.workers,
            worker_init_fn=leave_stopping_to_the_main_process,
            # Streams are read by pyarrow's threads, which a forked process inherits broken.
            multiprocessing_context="spawn" if config.data.workers else None,
            pin_memory=torch.cuda.is_available(),
        )
    if len(source) < batch_size * world:
        raise InputError(
            f"data.path={config.data.path}: {len(source)} images, fewer than one global batch of {batch_size * world}; "
            f"set optim.batch_size to at most {len(source) // world}"
        )
    return DataLoader(
        CropDataset(source, config),
        batch_sampler=RankBatches(start, config.optim.steps, batch_size, rank, world),
        collate_fn=Collate(config, world),
        num_workers=config.data.workers,
        worker_init_fn=leave_stopping_to_the_main_process,
        pin_memory=torch.cuda.is_available(),
    )


def read_batches(loader: DataLoader[Any]) -> Iterator[Batch]:
    """All batches of a loader; the end of a worker is told from what a worker raises.

    Raises:
        InputError: a worker was killed. Where PyTorch itself misses one it is a RuntimeError, at any moment of a run.
    """
    try:
        yield from loader
    except (EOFError, ConnectionError) as error:
        if not loader.num_workers or "in DataLoader worker process" in str(error):  # PyTorch's words for the latter
            raise
        raise InputError(LOST_WORKER) from error  # a pipe whose other end is gone
