"""Images with a target per pixel in: tables or folders become one DenseTask for segmentation or depth."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lvd_evaluate.config import DataConfig
from lvd_evaluate.contracts import VOID, DenseSplit, DenseTask
from lvd_evaluate.errors import InputError
from lvd_evaluate.images import decode_rgb, decode_values
from lvd_evaluate.progress import track
from lvd_evaluate.tasks.tables import (
    IMAGE_SUFFIXES,
    find_sources,
    open_table,
    own_folder,
    read_cell,
    require_unseen,
    task_name,
)

if TYPE_CHECKING:
    from PIL import Image

TARGETS = {"segmentation": "mask", "depth": "depth"}  # setting below `data.` that names the column of each kind
FOLDERS = {"mask": "masks", "depth": "depth"}  # beside images/, where a folder stands for a table
MAX_CLASSES = 10_000  # a mask with higher numbers is no mask of classes
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Files:
    """The files behind each row of a split; crosses to other processes."""

    name: str  # train or test
    table: Any  # datasets.Dataset with the columns below, or a list of (image, target) paths
    image: str  # columns
    target: str
    scale: str | None  # column of metres per stored number
    local: Path | None  # folder whose files rows may name

    def __len__(self) -> int:
        return len(self.table)

    def content(self, row: int) -> tuple[bytes, bytes, float | None]:
        """Image file, target file and, where the table has one, the target's scale."""
        if isinstance(self.table, list):
            cells = [{"bytes": None, "path": str(path)} for path in self.table[row]]
            scale = None
        else:
            found = self.table[row]
            cells = [found[self.image], found[self.target]]
            scale = found[self.scale] if self.scale else None
        place = f"{self.name} row {row}"
        image, target = (
            read_cell(cell, f"{place}, {what}", local=self.local)
            for cell, what in zip(cells, (self.image, self.target), strict=True)
        )
        return image, target, scale


@dataclass(frozen=True)
class Reader:
    """`DenseSplit.read`: a row's image and target, checked; crosses to other processes."""

    files: Files
    target: Callable[[bytes, float | None], np.ndarray]  # of a target file and its scale

    def __call__(self, row: int) -> tuple[Image.Image, np.ndarray]:
        """RGB image and target [H, W] of the same size."""
        image_file, target_file, scale = self.files.content(row)
        place = f"{self.files.name} row {row} (sha256 {hashlib.sha256(image_file).hexdigest()[:12]})"
        try:
            image = decode_rgb(image_file)
        except InputError as error:
            raise InputError(f"{place}: the image {error}") from error
        try:
            target = self.target(target_file, scale)
        except InputError as error:
            raise InputError(f"{place}: '{self.files.target}' {error}") from error
        height, width = target.shape
        if image.size != (width, height):
            raise InputError(
                f"{place}: the image has {image.width}x{image.height} pixels, '{self.files.target}' {width}x{height}"
            )
        return image, target


@dataclass(frozen=True)
class ReadMask:
    """Class numbers of a mask file, int64 [H, W], those that do not count as VOID."""

    void: int
    zero_is_void: bool
    num_classes: int

    def __call__(self, content: bytes, scale: float | None) -> np.ndarray:
        """Classes start at 0; with `zero_is_void` the file's 1 is class 0."""
        values = decode_values(content).astype(np.int64)  # [H, W]
        counts = values != self.void
        if self.zero_is_void:
            counts &= values != 0
        classes = np.where(counts, values - int(self.zero_is_void), VOID)
        wrong = counts & ((classes < 0) | (classes >= self.num_classes))
        if wrong.any():
            first = int(self.zero_is_void)
            raise InputError(
                f"holds {int(values[wrong][0])}; classes are {first} to {self.num_classes - 1 + first} and "
                f"{self.void} does not count (data.void, data.classes, data.zero_label_is_void)"
            )
        return classes


@dataclass(frozen=True)
class ReadDepth:
    """Metres of a depth file, float32 [H, W], 0 where nothing was read."""

    scale: float | None  # metres per stored number; None: each row's own

    def __call__(self, content: bytes, scale: float | None) -> np.ndarray:
        """Numbers that are not finite or below 0 count as not read."""
        scale = self.scale if self.scale is not None else scale
        if scale is None or not np.isfinite(scale) or not scale > 0:
            raise InputError(f"has the scale {scale}; give data.depth_scale, metres per stored number")
        metres = decode_values(content).astype(np.float32) * np.float32(scale)  # [H, W]
        return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(0))


def load_dense_task(data: Sequence[str], config: DataConfig, kind: str) -> DenseTask:
    """Open train and test and check every target once.

    Args:
        data: the values of --data: PATH with both splits, or train=PATH and test=PATH. A PATH is a Parquet file, a
            dataset folder, a hub id, or a folder with images/ and masks/ (or depth/) whose files share their stems.
        config: columns, what does not count, names of classes, scale of depth, limits and the task's name.
        kind: segmentation or depth.

    Raises:
        InputError: nothing there, no such split or column, a cell without a file, a target that is not one number per
            pixel, of another size than its image or out of range, or test images that are train's.
    """
    sources = find_sources(data)
    files = {
        name: open_files(source, name, config, TARGETS[kind], must_name=sources["train"] == sources["test"])
        for name, source in sources.items()
    }
    target: ReadMask | ReadDepth
    if kind == "segmentation":
        first = int(config.zero_label_is_void)
        target = ReadMask(config.void, config.zero_label_is_void, len(config.classes) or MAX_CLASSES)
        if not config.classes:
            highest = max(_scan(Reader(files["train"], target), _highest_class, "classes of train"))
            if highest == VOID:
                raise InputError("train: no pixel of any mask counts; look at data.void and data.zero_label_is_void")
            target = ReadMask(config.void, config.zero_label_is_void, highest + 1)
        classes = list(config.classes) or [str(number + first) for number in range(target.num_classes)]
    else:
        target, classes = ReadDepth(config.depth_scale), []
    splits = {name: _build_split(Reader(found, target), config) for name, found in files.items()}
    require_unseen(splits["train"], splits["test"])
    task = DenseTask(config.name or task_name(data), kind, classes, splits["train"], splits["test"])
    logger.info("task %s: %d train, %d test images, %s", task.name, len(task.train), len(task.test), kind)
    return task


def open_files(source: str, name: str, config: DataConfig, key: str, *, must_name: bool) -> Files:
    """The rows of a split: a table's, or pairs of files from images/ and masks/ or depth/.

    Args:
        source: path or hub id.
        name: train or test.
        config: columns, limits, scale of depth.
        key: setting below `data.` that names the column of targets, of TARGETS.
        must_name: whether the source must have a split of that name.

    Raises:
        InputError: it cannot be opened, lacks the split or a column, or files have no partner.
    """
    folder, limit, column = Path(source), getattr(config, f"limit_{name}"), getattr(config, key)
    if (folder / "images").is_dir() and (folder / FOLDERS[key]).is_dir():
        if must_name:
            raise InputError(f"{source}: no separate train and test split; give --data train=PATH --data test=PATH")
        if key == "depth" and config.depth_scale is None:
            raise InputError(f"{source}: give data.depth_scale, metres per stored number (0.001 for millimetres)")
        pairs = _pair_files(folder / "images", folder / FOLDERS[key])
        return Files(name, pairs[:limit], "image", FOLDERS[key], None, local=folder)
    columns = {"image": config.image, key: column}
    if key == "depth" and config.depth_scale is None:
        columns["depth_scale_column"] = config.depth_scale_column
    table = open_table(source, name, columns, images=("image", key), limit=limit, must_name=must_name)
    return Files(name, table, config.image, column, columns.get("depth_scale_column"), local=own_folder(source))


def _pair_files(images: Path, targets: Path) -> list[tuple[Path, Path]]:
    """Files of both folders with the same path but for the suffix, sorted."""
    found = [
        {file.relative_to(folder).with_suffix(""): file for file in sorted(folder.rglob("*")) if _is_image(file)}
        for folder in (images, targets)
    ]
    alone = sorted(found[0].keys() ^ found[1].keys())
    if alone:
        missing = targets if alone[0] in found[0] else images
        raise InputError(f"{missing / alone[0]}.*: {len(alone)} files of {images} and {targets} have no partner")
    if not found[0]:
        raise InputError(f"{images}: no images")
    return [(found[0][stem], found[1][stem]) for stem in sorted(found[0])]


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file()


def _build_split(reader: Reader, config: DataConfig) -> DenseSplit:
    """Read every row once: what is wrong shows before any model runs, and the fingerprint covers every byte."""
    name = reader.files.name
    rows = _scan(reader, _identify, f"targets of {name}")
    digest = hashlib.sha256(repr((reader.target, rows)).encode()).hexdigest()
    ids = np.array([image for image, _, _ in rows])
    return DenseSplit(name, reader, ids, digest[:16], limited=getattr(config, f"limit_{name}") is not None)


def _scan(reader: Reader, read: Callable[[Reader, int], Any], title: str) -> list[Any]:
    """What `read` makes of every row, by threads (decoding frees the GIL)."""
    with ThreadPoolExecutor(os.cpu_count()) as pool, track(title, len(reader.files), "images") as advance:
        found = []
        try:
            for result in pool.map(lambda row: read(reader, row), range(len(reader.files))):
                found.append(result)
                advance(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return found


def _highest_class(reader: Reader, row: int) -> int:
    return int(reader(row)[1].max())


def _identify(reader: Reader, row: int) -> tuple[str, str, float | None]:
    reader(row)
    image, target, scale = reader.files.content(row)
    return hashlib.sha256(image).hexdigest(), hashlib.sha256(target).hexdigest(), scale
