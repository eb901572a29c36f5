"""Datasets read from their start to their end: no copy on disk, no random access, and still the same order every time.

A stream is cut into lanes, one per rank and worker. A lane reads its own shards, permuted anew at each pass, through a
shuffle buffer whose draws come from the seed. Where a lane stands is therefore its number of samples, and a resumed run
reads up to there again without decoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np

from lvd_pretrain.config import DataConfig
from lvd_pretrain.errors import InputError
from lvd_pretrain.hub import prefer_cache_if_unreachable
from lvd_pretrain.sources import fingerprint_files, home_of, walk_files
from lvd_pretrain.tars import expand_braces

SAVED_SHARDS = 64  # a dataset of `save_to_disk` is cut into, to be shared out and permuted
READ_AHEAD = 16  # rows taken from the library at once


@dataclass(frozen=True)
class StreamSource:
    """An image column of a streamed Hugging Face dataset."""

    table: Any  # datasets.IterableDataset of one column, not decoded
    column: str
    path: str  # as the user gave it
    fingerprint: str

    @property
    def home(self) -> Path | None:
        """Folder whose files its rows may name."""
        return home_of(self.path)

    def cells(self, lane: int, lanes: int, turn: int, seed: int) -> Iterator[Any]:
        """One pass over a lane's image cells; whole shards where there are enough, else every `lanes`-th row."""
        shards = self.table.num_shards
        split = shards >= lanes
        mine = np.arange(lane, shards, lanes) if split else np.arange(shards)
        rows = chain.from_iterable(
            self._shard_cells(int(shard))
            for shard in np.random.default_rng([seed, turn, lane if split else 0]).permutation(mine)
        )
        yield from rows if split else islice(rows, lane, None, lanes)

    def _shard_cells(self, shard: int) -> Iterator[Any]:
        part = self.table.shard(num_shards=self.table.num_shards, index=shard)
        try:
            for rows in part.iter(batch_size=READ_AHEAD):
                yield from rows[self.column]
        except Exception as error:  # the library raises a dozen kinds for a lost network or a damaged file
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"data.path={self.path}: the stream broke ({reason}); start again to go on") from error


class Lane:
    """The endless shuffled cells of one lane.

    Args:
        source: the stream.
        lane, lanes: which of how many.
        buffer: cells held for shuffling.
        needed: fewest cells the lane must have (a batch).
        seed: of the run.

    Raises:
        InputError: the lane holds fewer cells than a batch.
    """

    def __init__(self, source: StreamSource, lane: int, lanes: int, buffer: int, needed: int, seed: int) -> None:
        self.rng = np.random.default_rng([seed, lane])
        first = source.cells(lane, lanes, 0, seed)
        self.buffer = list(islice(first, max(buffer, needed)))
        if len(self.buffer) < needed:
            raise InputError(
                f"data.path={source.path}: {len(self.buffer)} images for one of {lanes} readers (ranks x workers), "
                f"below its batch of {needed}: set fewer data.workers or a smaller optim.batch_size"
            )
        later = (source.cells(lane, lanes, turn, seed) for turn in count(1))
        self.cells = chain(first, chain.from_iterable(later))

    def take(self) -> Any:
        """The next cell: a random one of the buffer, whose place the stream's next fills."""
        place = int(self.rng.integers(len(self.buffer)))
        cell, self.buffer[place] = self.buffer[place], next(self.cells)
        return cell

    def substitute(self, rng: np.random.Generator) -> Any:
        """Another cell for one that cannot be read; it stays in the buffer."""
        return self.buffer[int(rng.integers(len(self.buffer)))]


def open_stream(config: DataConfig) -> StreamSource:
    """Open `data.path` for streaming: a Hugging Face dataset folder, Parquet, tars or a hub id.

    Raises:
        InputError: nothing there, a hub that cannot be reached, or no such column.
    """
    import datasets

    path = Path(config.path)
    if path.is_dir() and not any(file.suffix in {".parquet", ".arrow", ".tar"} for file in walk_files(path)):
        raise InputError(f"data.path={path}: no dataset to stream in this folder; image folders need no streaming")
    tars = sorted(str(file) for file in walk_files(path) if file.suffix == ".tar") if path.is_dir() else []
    if tars or config.path.endswith(".tar"):
        kind, files = "webdataset", tars or expand_braces(config.path)
    elif path.suffix == ".parquet":
        kind, files = "parquet", [config.path]
    else:
        kind, files = config.path, []
        if not path.exists():
            prefer_cache_if_unreachable()
    try:
        if (path / "state.json").is_file():
            saved = datasets.load_from_disk(config.path)
            table = saved.to_iterable_dataset(num_shards=min(SAVED_SHARDS, len(saved)))
        else:
            table = datasets.load_dataset(
                kind, data_files={config.split: files} if files else None, split=config.split, streaming=True
            )
        columns = table.column_names or list(next(iter(table)))
    except Exception as error:  # the library raises a dozen kinds for a bad folder, a lost network, an unknown split
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"data.path={config.path}: split '{config.split}' cannot be streamed ({reason})") from error
    if config.column not in columns:
        raise InputError(f"data.column={config.column}: not among the columns {', '.join(columns)}")
    table = table.select_columns([config.column])
    if table.features and isinstance(table.features[config.column], datasets.Image):
        table = table.cast_column(config.column, datasets.Image(decode=False))
    local = sorted(walk_files(path)) if path.is_dir() else [Path(file) for file in files if Path(file).is_file()]
    root = path if path.is_dir() else path.parent
    fingerprint = fingerprint_files(root, local) if local else f"{config.path} {config.split} {table.info.version}"
    return StreamSource(table, config.column, config.path, f"stream of {fingerprint}")
