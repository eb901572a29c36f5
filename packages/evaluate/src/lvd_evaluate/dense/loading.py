"""Images with targets, decoded and augmented by other processes: the same samples whatever their number."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lvd_evaluate import ranks
from lvd_evaluate.contracts import DenseSplit
from lvd_evaluate.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

MAX_WORKERS = 8  # beyond these, one accelerator is fed
OWN_WORDS = f"{InputError.__module__}.{InputError.__name__}: "  # how a traceback's last line begins


@dataclass(frozen=True)
class TrainingSamples:
    """Sample n of a training run: a row in an order that changes with each pass, augmented by draws of its own."""

    split: DenseSplit
    rows: np.ndarray  # int64 [N], of the split
    augment: Callable[[Image.Image, np.ndarray, np.random.Generator], tuple[Tensor, Tensor]]  # image, target
    seed: int

    def row(self, sample: int) -> int:
        """Every row once per pass."""
        turn, place = divmod(sample, len(self.rows))
        return int(self.rows[np.random.default_rng([self.seed, 0, turn]).permutation(len(self.rows))[place]])

    def __getitem__(self, sample: int) -> tuple[Tensor, Tensor]:
        """Image and target; crosses to other processes."""
        image, target = self.split.read(self.row(sample))
        return self.augment(image, target, np.random.default_rng([self.seed, 1, sample]))


@dataclass(frozen=True)
class PreparedRows:
    """Row n of a split as it is wanted for measuring."""

    split: DenseSplit
    prepare: Callable[[Image.Image, np.ndarray], Any]

    def __getitem__(self, row: int) -> Any:
        """What `prepare` makes of the row; crosses to other processes."""
        return self.prepare(*self.split.read(row))


def training_batches(
    samples: TrainingSamples, batch_size: int, start: int, stop: int, workers: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's part of the batches start..stop: images [b, 3, H, W] and targets [b, H, W].

    Raises:
        InputError: a row cannot be read, or a process that reads was killed.
    """
    mine = [[step * batch_size + place for place in ranks.my_rows(batch_size)] for step in range(start, stop)]
    yield from _read(_loader(samples, workers, batch_sampler=mine))


def prepared_rows(samples: PreparedRows, rows: Iterable[int], workers: int | None) -> Iterator[Any]:
    """The given rows, prepared, in order.

    Raises:
        InputError: a row cannot be read, or a process that reads was killed.
    """
    yield from _read(_loader(samples, workers, sampler=list(rows), batch_size=None))


def _read(loader: DataLoader[Any]) -> Iterator[Any]:
    """All that a loader gives; the end of a worker is told from what a worker says of a row."""
    try:
        yield from loader
    except InputError as error:  # before that of a worker PyTorch puts its traceback
        raise InputError(str(error).rpartition(OWN_WORDS)[2].strip()) from error
    except (EOFError, ConnectionError, RuntimeError) as error:
        if not loader.num_workers or not _is_of_a_lost_worker(error):
            raise
        raise InputError(
            "a process that reads images was killed, most likely for want of memory: lower segmentation.workers or "
            "depth.workers; what is finished is kept, the same command goes on"
        ) from error


def _is_of_a_lost_worker(error: Exception) -> bool:
    """Whether PyTorch missed a worker, or a pipe has no other end; what a worker raised itself begins with "Caught"."""
    said = str(error)
    return (
        said.startswith("DataLoader worker (pid") if isinstance(error, RuntimeError) else not said.startswith("Caught")
    )


def _loader(samples: TrainingSamples | PreparedRows, workers: int | None, **how: Any) -> DataLoader[Any]:
    """Workers are forked from a server that has imported what takes seconds and holds no threads.

    This process does hold some (of tables, of the encoder), which do not survive a fork.
    """
    count = min(os.cpu_count() or 1, MAX_WORKERS) if workers is None else workers
    if count:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["lvd_evaluate.dense.transforms"])
        how |= {"multiprocessing_context": context, "prefetch_factor": 4, "worker_init_fn": follow_parent}
    generator = torch.Generator()  # else the loader draws a seed from global state
    return DataLoader(samples, num_workers=count, generator=generator, **how)  # type: ignore[arg-type]


def follow_parent(worker: int) -> None:
    """Make a worker end with the process that it reads for, however that ends.

    PyTorch's workers watch their parent, here the server; which ends when its workers have, and so neither ever would.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
