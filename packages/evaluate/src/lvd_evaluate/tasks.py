"""Labelled images in: Hugging Face dataset folders, hub ids, Parquet files and image folders become one Task."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lvd_evaluate.config import DataConfig
from lvd_evaluate.contracts import Split, Task
from lvd_evaluate.errors import InputError
from lvd_evaluate.hub import prefer_cache_if_unreachable

SPLIT_NAMES = {"train": ("train",), "test": ("test", "validation", "val", "valid")}  # tried in this order
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
READ_ROWS = 512  # rows per read while the content is hashed
logger = logging.getLogger(__name__)


def load_task(data: Sequence[str], config: DataConfig) -> Task:
    """Open train and test, map the labels of both onto train's classes.

    Args:
        data: the values of --data: PATH with both splits, or train=PATH and test=PATH; a PATH may be a hub id.
        config: columns, limits and the task's name.

    Raises:
        InputError: nothing there, no such split or column, no images, labels of test that train does not have, or
            test images that are train's.
    """
    sources = find_sources(data)
    one_source = sources["train"] == sources["test"]
    tables = {name: _open_table(source, name, config, must_name=one_source) for name, source in sources.items()}
    classes, labels = _index_labels(tables, config)
    splits = {
        name: _build_split(name, table, labels[name], config, local=Path(sources[name]).exists())
        for name, table in tables.items()
    }
    _require_unseen(splits["train"], splits["test"])
    task = Task(config.name or _task_name(data), classes, splits["train"], splits["test"])
    logger.info(
        "task %s: %d train, %d test images, %d classes", task.name, len(task.train), len(task.test), len(classes)
    )
    return task


def find_sources(data: Sequence[str]) -> dict[str, str]:
    """Which path or hub id each split comes from, out of the values of --data.

    Raises:
        InputError: a split is named twice or not at all.
    """
    sources: dict[str, str] = {}
    for value in data:
        split, marker, path = value.partition("=")
        found = {split: path} if marker and split in SPLIT_NAMES else _both_splits(value)
        for name, source in found.items():
            if name in sources:
                raise InputError(f"--data {value}: the {name} split is given twice")
            sources[name] = source
    missing = [name for name in SPLIT_NAMES if name not in sources]
    if missing:
        raise InputError(f"--data: no {' and no '.join(missing)} split given; add --data {missing[0]}=PATH")
    return sources


def _both_splits(value: str) -> dict[str, str]:
    folders = {
        name: next((str(Path(value) / folder) for folder in names if (Path(value) / folder).is_dir()), None)
        for name, names in SPLIT_NAMES.items()
    }
    if folders["train"] and folders["test"]:
        return {name: folder for name, folder in folders.items() if folder}
    return {"train": value, "test": value}


def _require_unseen(train: Split, test: Split) -> None:
    """Refuse to test on the train images themselves; say how many test images train holds too."""
    shared = int(np.isin(test.ids, train.ids).sum())
    if shared == len(test) and set(train.ids) == set(test.ids):
        raise InputError("--data: train and test hold the very same images; give --data train=PATH --data test=PATH")
    if shared:
        logger.warning("%d of %d test images are in train too: the numbers flatter every model", shared, len(test))


def _task_name(data: Sequence[str]) -> str:
    value = data[0].partition("=")[2] if data[0].startswith(("train=", "test=")) else data[0]
    path = Path(value).absolute()
    if path.name in {name for names in SPLIT_NAMES.values() for name in names}:
        path = path.parent
    return path.stem if path.exists() else value


def _open_table(source: str, split: str, config: DataConfig, *, must_name: bool) -> Any:
    """A `datasets.Dataset` of the two columns, images undecoded, limited to the first n rows if asked.

    A source of one unnamed or differently named split serves for any, unless it `must_name` the one asked for.
    """
    import datasets

    tables = _load_splits(source)
    wanted = [name for name in SPLIT_NAMES[split] if name in tables]
    if not wanted and must_name and len(tables) == 1:
        raise InputError(f"{source}: no separate train and test split; give --data train=PATH --data test=PATH")
    if not wanted and len(tables) > 1:
        raise InputError(f"{source}: no {split} split; there are {', '.join(map(str, tables))}")
    table = tables[wanted[0]] if wanted else next(iter(tables.values()))
    for key in ("image", "label"):
        column = getattr(config, key)
        if column not in table.column_names:
            columns = ", ".join(table.column_names)
            raise InputError(f"{source}: no column '{column}' in {split}; there are {columns} (set data.{key}=NAME)")
    limit = getattr(config, f"limit_{split}")
    table = table.select_columns([config.image, config.label])
    table = table.select(range(min(limit, len(table)))) if limit else table
    if not len(table):
        raise InputError(f"{source}: the {split} split holds no images")
    try:
        return table.cast_column(config.image, datasets.Image(decode=False))
    except Exception as error:  # pyarrow's cast errors share no base class with those of datasets
        kind = table.features[config.image]
        raise InputError(f"{source}: column '{config.image}' holds {kind}, not images") from error


def _load_splits(source: str) -> dict[str, Any]:
    import datasets

    path = Path(source)
    if not path.exists():
        if path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1 or path.suffix:
            raise InputError(f"{source}: no such file or folder")
        prefer_cache_if_unreachable()
    if not logger.isEnabledFor(logging.DEBUG):
        datasets.disable_progress_bars()
    try:
        if path.is_file():
            return {"all": datasets.load_dataset("parquet", data_files=str(path), split="train")}
        if path.is_dir() and _is_image_folder(path):
            return {"all": datasets.load_dataset("imagefolder", data_dir=str(path), split="train", drop_labels=False)}
        if path.is_dir():
            return dict(datasets.load_dataset(str(path), cache_dir=_cache_folder(path)))
        return dict(datasets.load_dataset(source))
    except Exception as error:  # every reader behind load_dataset has its own exceptions
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{source}: not readable as a dataset ({type(error).__name__}: {reason})") from error


def _cache_folder(folder: Path) -> str:
    """Where the library may cache a local dataset; its own key is the folder's name and card, not its files."""
    import datasets

    files = sorted(file for file in folder.rglob("*") if file.is_file())
    state = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return str(Path(datasets.config.HF_DATASETS_CACHE, f"lvd-{hashlib.sha256(repr(state).encode()).hexdigest()[:16]}"))


def _is_image_folder(path: Path) -> bool:
    folders = [child for child in path.iterdir() if child.is_dir() and child.name != "data"]
    return any(file.suffix.lower() in IMAGE_SUFFIXES for folder in folders for file in folder.iterdir())


def _index_labels(tables: dict[str, Any], config: DataConfig) -> tuple[list[str], dict[str, np.ndarray]]:
    values = {name: _label_values(table, config.label, name) for name, table in tables.items()}
    feature = tables["train"].features[config.label]
    classes = list(getattr(feature, "names", None) or sorted(set(values["train"])))
    index = {value: position for position, value in enumerate(classes)}
    unknown = sorted({value for value in values["test"] if value not in index}, key=str)
    if unknown:
        raise InputError(
            f"test holds labels that train does not have: {', '.join(map(str, unknown[:5]))}; "
            f"train has {', '.join(map(str, classes[:5]))}{', ...' if len(classes) > 5 else ''}"
        )
    labels = {name: np.array([index[value] for value in column], dtype=np.int64) for name, column in values.items()}
    return [str(value) for value in classes], labels


def _label_values(table: Any, column: str, split: str) -> list[Any]:
    """Labels as names (class labels, text) or integers."""
    names = getattr(table.features[column], "names", None)
    values = list(table[column])
    bare = next((row for row, value in enumerate(values) if value is None or (names and value < 0)), None)
    if bare is not None:
        raise InputError(
            f"{split} row {bare}: no label in column '{column}' ({values[bare]}); take such rows out first"
        )
    if names:
        return [names[value] for value in values]
    strange = next((value for value in values if isinstance(value, bool) or not isinstance(value, (int, str))), None)
    if strange is not None or len({type(value) for value in values}) > 1:
        kind = table.features[column]
        raise InputError(
            f"{split}: column '{column}' holds {kind}, not one integer or text per image (set data.label=NAME)"
        )
    return values


def _build_split(name: str, table: Any, labels: np.ndarray, config: DataConfig, *, local: bool) -> Split:
    def read(start: int, stop: int) -> list[bytes]:
        cells = table[start:stop][config.image]
        return [_read_image(cell, f"{name} row {row}", local=local) for row, cell in enumerate(cells, start)]

    ids = np.array(
        [
            hashlib.sha256(content).hexdigest()
            for start in range(0, len(table), READ_ROWS)
            for content in read(start, start + READ_ROWS)
        ]
    )
    digest = hashlib.sha256("".join(ids).encode() + labels.tobytes()).hexdigest()
    return Split(name, read, labels, ids, digest[:16], limited=getattr(config, f"limit_{name}") is not None)


def _read_image(cell: dict[str, Any] | None, place: str, *, local: bool) -> bytes:
    """Bytes of one image: those in the table, else those of the file that it names."""
    if cell and cell["bytes"]:
        return bytes(cell["bytes"])
    if not cell or not cell["path"]:
        raise InputError(f"{place}: holds no image; take the row out first")
    if not local and not _is_cached(Path(cell["path"])):
        raise InputError(f"{place}: names the file {cell['path']}; a dataset of the hub must bring its images along")
    try:
        content = Path(cell["path"]).read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{place}: {cell['path']} cannot be read ({error})") from error
    if not content:
        raise InputError(f"{place}: {cell['path']} is empty; take the row out first")
    return content


def _is_cached(path: Path) -> bool:
    """Whether the library itself downloaded this file."""
    import datasets
    from huggingface_hub import constants

    caches = (constants.HF_HUB_CACHE, datasets.config.HF_DATASETS_CACHE)
    return any(path.resolve().is_relative_to(Path(cache).resolve()) for cache in caches)
