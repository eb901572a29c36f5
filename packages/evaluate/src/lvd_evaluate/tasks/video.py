"""Labelled clips in: lists of images, folders of frames or encoded files become a VideoTask of evenly spaced frames."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lvd_evaluate.config import DataConfig
from lvd_evaluate.contracts import Features, Split
from lvd_evaluate.errors import InputError
from lvd_evaluate.tasks.classification import index_labels
from lvd_evaluate.tasks.tables import (
    IMAGE_SUFFIXES,
    find_sources,
    open_table,
    own_folder,
    read_cell,
    require_unseen,
    task_name,
)
from lvd_evaluate.tasks.video_files import read_frames, require_decoder

VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg"}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipSplit:
    """Labelled clips in a fixed order, each as the same number of frames."""

    frames: Split  # clip after clip
    labels: np.ndarray  # int64 [N]
    ids: np.ndarray  # text [N]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class VideoTask:
    """Classification of clips: learn on train, measure on test."""

    name: str
    classes: list[str]
    frames_per_clip: int
    train: ClipSplit
    test: ClipSplit

    @property
    def fingerprint(self) -> str:
        """Names both splits."""
        return f"{self.train.frames.fingerprint}-{self.test.frames.fingerprint}"


def load_video_task(data: Sequence[str], config: DataConfig, frames_per_clip: int) -> VideoTask:
    """Open the clips of train and test.

    Args:
        data: the values of --data. A PATH is a dataset whose column `data.clip` holds a list of images or an encoded
            video per row, or a folder CLASS/CLIP/frame.jpg or CLASS/clip.mp4.
        config: columns, limits (of clips) and the task's name.
        frames_per_clip: evenly spaced ones, the middles of as many equal parts; short clips repeat frames.

    Raises:
        InputError: nothing there, no such split or column, no clips, labels of test that train does not have, a clip
            without frames, or encoded videos without the library that decodes them.
    """
    sources = find_sources(data)
    one_source = sources["train"] == sources["test"]
    tables = {name: _open_clips(source, name, config, must_name=one_source) for name, source in sources.items()}
    classes, labels = index_labels(tables, config)
    splits = {
        name: _build_clips(name, table, labels[name], config, frames_per_clip, local=own_folder(sources[name]))
        for name, table in tables.items()
    }
    require_unseen(splits["train"].frames, splits["test"].frames)
    task = VideoTask(config.name or task_name(data), classes, frames_per_clip, splits["train"], splits["test"])
    logger.info(
        "task %s: %d train, %d test clips, %d frames of each, %d classes",
        *(task.name, len(task.train), len(task.test), frames_per_clip, len(classes)),
    )
    return task


def average_frames(features: Features, frames_per_clip: int, how: str) -> Features:
    """Features of clips from those of their frames, clip after clip.

    Args:
        features: cls [N F, L, D], patch_mean [N F, D].
        frames_per_clip: F.
        how: average gives [N, L, D] (Kinetics-400, UCF101), concatenate [N, L, F D] in the order of time
            (Something-Something v2), float32.
    """

    def merge(column: Tensor) -> Tensor:
        clips = column.float().unflatten(0, (-1, frames_per_clip))  # [N, F, ..., D]
        return clips.mean(dim=1) if how == "average" else clips.movedim(1, -2).flatten(-2)

    pooled = features.patch_mean
    return replace(
        features,
        cls=merge(features.cls),
        patch_mean=None if pooled is None else merge(pooled),
        labels=features.labels[::frames_per_clip],
    )


def spaced(count: int, wanted: int) -> list[int]:
    """Numbers of `wanted` evenly spaced frames of 0..count: the middles of as many equal parts."""
    return [int((part + 0.5) * count / wanted) for part in range(wanted)]


def _open_clips(source: str, split: str, config: DataConfig, *, must_name: bool) -> Any:
    """A table with the columns of labels and clips; folders become one of file names."""
    import datasets

    limit = getattr(config, f"limit_{split}")
    clips = _list_clips(Path(source), config) if Path(source).is_dir() else []
    if clips:
        return datasets.Dataset.from_list(clips[:limit])
    columns = {"clip": config.clip, "label": config.label}
    table = open_table(source, split, columns, images=(), limit=limit, must_name=must_name)
    kind = table.features[config.clip]
    try:
        if isinstance(kind, (datasets.List, datasets.LargeList)):
            return table.cast_column(config.clip, datasets.List(datasets.Image(decode=False)))
        if isinstance(kind, datasets.Video) or (isinstance(kind, dict) and set(kind) == {"bytes", "path"}):
            return table.cast_column(config.clip, datasets.Video(decode=False))
    except Exception as error:  # pyarrow's cast errors share no base class with those of datasets
        raise InputError(f"{source}: column '{config.clip}' holds {kind}, not images or videos") from error
    raise InputError(
        f"{source}: column '{config.clip}' holds {kind}, neither a list of images nor a video per row (data.clip=NAME)"
    )


def _list_clips(folder: Path, config: DataConfig) -> list[dict[str, Any]]:
    """Clips of CLASS/CLIP/frame.jpg or CLASS/clip.mp4, frames in the order of the numbers in their names."""
    frames, files = [], []
    for entry in sorted(folder.glob("*/*"), key=_natural_order):
        images = [{"bytes": None, "path": str(file)} for file in sorted(_images_in(entry), key=_natural_order)]
        if images:
            frames.append({config.clip: images, config.label: entry.parent.name})
        elif entry.suffix.lower() in VIDEO_SUFFIXES:
            files.append({config.clip: {"bytes": None, "path": str(entry)}, config.label: entry.parent.name})
    if frames and files:
        raise InputError(f"{folder}: holds both folders of frames and encoded videos; give them one at a time")
    return frames or files


def _images_in(entry: Path) -> list[Path]:
    return [file for file in entry.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES] if entry.is_dir() else []


def _natural_order(path: Path) -> list[Any]:
    """frame2 before frame10."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _build_clips(
    name: str, table: Any, labels: np.ndarray, config: DataConfig, frames_per_clip: int, *, local: Path | None
) -> ClipSplit:
    encoded = isinstance(table[0][config.clip], dict)
    if encoded:
        require_decoder()

    def read_clip(row: int) -> list[bytes]:
        cell, place = table[row][config.clip], f"{name} clip {row}"
        if encoded:
            content = read_cell(cell, place, local=local)
            try:
                return read_frames(content, lambda count: spaced(count, frames_per_clip))
            except InputError as error:
                raise InputError(f"{place}: {error}") from error
        if not cell:
            raise InputError(f"{place}: holds no frames; take the row out first")
        return [read_cell(cell[frame], place, local=local) for frame in spaced(len(cell), frames_per_clip)]

    def read(start: int, stop: int) -> list[bytes]:
        first, last = start // frames_per_clip, -(-stop // frames_per_clip)
        found = [frame for row in range(first, last) for frame in read_clip(row)]
        return found[start - first * frames_per_clip : stop - first * frames_per_clip]

    def frame_ids(row: int) -> list[str]:
        if encoded:  # those of the file stand for its frames: decoding each twice would double the work
            content = read_cell(table[row][config.clip], f"{name} clip {row}", local=local)
            return [f"{hashlib.sha256(content).hexdigest()}/{frame}" for frame in range(frames_per_clip)]
        return [hashlib.sha256(frame).hexdigest() for frame in read_clip(row)]

    ids = np.array([frame_ids(row) for row in range(len(table))])  # [N, F]
    digest = hashlib.sha256("".join(ids.flat).encode() + labels.tobytes()).hexdigest()[:16]
    limited = getattr(config, f"limit_{name}") is not None
    frames = Split(name, read, np.repeat(labels, frames_per_clip), ids.flatten(), digest, limited)
    clip_ids = np.array([hashlib.sha256("".join(clip).encode()).hexdigest() for clip in ids])
    return ClipSplit(frames, labels, clip_ids)
