"""Tables of images: Hugging Face dataset folders, hub ids, Parquet files and image folders, opened column by column."""

from __future__ import annotations

import atexit
import functools
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lvd_evaluate.contracts import DenseSplit, Split
from lvd_evaluate.errors import InputError, printable
from lvd_evaluate.hub import is_lost_connection, prefer_cache_if_unreachable

SPLIT_NAMES = {"train": ("train",), "test": ("test", "validation", "val", "valid")}  # tried in this order
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
logger = logging.getLogger(__name__)


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


def task_name(data: Sequence[str]) -> str:
    """A name for the values of --data: the folder's, the file's or the hub id."""
    value = data[0].partition("=")[2] if data[0].startswith(("train=", "test=")) else data[0]
    path = Path(value).absolute()
    if path.name in {name for names in SPLIT_NAMES.values() for name in names}:
        path = path.parent
    return printable(path.stem if path.exists() else value)


def open_table(
    source: str,
    split: str,
    columns: dict[str, str],
    *,
    images: Sequence[str] = ("image",),
    limit: int | None = None,
    must_name: bool = False,
) -> Any:
    """A `datasets.Dataset` of some columns, images undecoded, limited to the first n rows if asked.

    Args:
        source: path or hub id.
        split: train or test. A source of one unnamed or differently named split serves for any, unless `must_name`.
        columns: the settings below `data.` that name the columns, with their values.
        images: those of `columns` that hold images.
        limit: rows; None takes all.
        must_name: whether the source must have a split of that name.

    Raises:
        InputError: it cannot be opened, lacks the split or a column, holds no rows, or a column holds no images.
    """
    import datasets

    tables = load_splits(source)
    wanted = [name for name in SPLIT_NAMES[split] if name in tables]
    if not wanted and must_name and len(tables) == 1:
        raise InputError(f"{source}: no separate train and test split; give --data train=PATH --data test=PATH")
    if not wanted and len(tables) > 1:
        raise InputError(f"{source}: no {split} split; there are {', '.join(map(str, tables))}")
    table = tables[wanted[0]] if wanted else next(iter(tables.values()))
    for key, column in columns.items():
        if column not in table.column_names:
            there = ", ".join(table.column_names)
            raise InputError(f"{source}: no column '{column}' in {split}; there are {there} (set data.{key}=NAME)")
    table = table.select_columns(list(columns.values()))
    table = table.select(range(min(limit, len(table)))) if limit else table
    if not len(table):
        raise InputError(f"{source}: the {split} split holds no images")
    for key in images:
        try:
            table = table.cast_column(columns[key], datasets.Image(decode=False))
        except Exception as error:  # pyarrow's cast errors share no base class with those of datasets
            kind = table.features[columns[key]]
            raise InputError(f"{source}: column '{columns[key]}' holds {kind}, not images") from error
    return table


def load_splits(source: str) -> dict[str, Any]:
    """Every split of a path or hub id; "all" where it has none.

    Raises:
        InputError: nothing there, or nothing that `datasets` reads.
    """
    import datasets

    path = Path(source)
    if not path.exists():
        if path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1 or path.suffix:
            raise InputError(f"{source}: no such file or folder")
        prefer_cache_if_unreachable()
    if not logger.isEnabledFor(logging.DEBUG):
        datasets.disable_progress_bars()
    cache = str(_cache_root())
    try:
        if path.is_file():
            return {"all": datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=cache)}
        if path.is_dir() and _is_image_folder(path):
            table = datasets.load_dataset(
                "imagefolder", data_dir=str(path), split="train", drop_labels=False, cache_dir=cache
            )
            return {"all": table}
        if path.is_dir():
            return dict(datasets.load_dataset(str(path), cache_dir=_cache_folder(path)))
        return dict(datasets.load_dataset(source, cache_dir=cache))
    except Exception as error:  # every reader behind load_dataset has its own exceptions
        cause = error.__cause__ or error  # what a builder of the library says itself is only that it failed
        reason = " ".join(str(cause).split())[:300]
        if is_lost_connection(error):
            here = "" if path.exists() else "no such file or folder here, and "
            raise InputError(
                f"{source}: {here}the hub was not reached, or lost on the way ({type(cause).__name__}: {reason}); give "
                "the same command again once there is a network (what was fetched is kept), or a file or folder"
            ) from error
        raise InputError(f"{source}: not readable as a dataset ({type(cause).__name__}: {reason})") from error


def _cache_root() -> Path:
    """The library's cache or, where a read-only home forbids it, a folder that goes with this process."""
    import datasets

    root = Path(datasets.config.HF_DATASETS_CACHE)
    try:
        root.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=root).close()
    except OSError:
        return _passing_cache(root)
    return root


@functools.cache
def _passing_cache(root: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="lvd-datasets-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    logger.info("%s cannot be written: tables are cached in %s until the end; HF_HOME chooses", root, folder)
    return folder


def _cache_folder(folder: Path) -> str:
    """Where the library may cache a local dataset; its own key is the folder's name and card, not its files."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    state = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return str(_cache_root() / f"lvd-{hashlib.sha256(repr(state).encode()).hexdigest()[:16]}")


def _is_image_folder(path: Path) -> bool:
    folders = [child for child in path.iterdir() if child.is_dir() and child.name != "data"]
    return any(file.suffix.lower() in IMAGE_SUFFIXES for folder in folders for file in folder.iterdir())


def own_folder(source: str) -> Path | None:
    """The folder whose files the rows of a source may name: a path's own; None for a hub id, which brings its own."""
    path = Path(source)
    return (path if path.is_dir() else path.parent) if path.exists() else None


def read_cell(cell: dict[str, Any] | None, place: str, *, local: Path | None) -> bytes:
    """Bytes of one image: those in the table, else those of the file that it names.

    Args:
        cell: bytes and path.
        place: for messages.
        local: folder that the file must lie in, if the library did not download it; a table may name any path.

    Raises:
        InputError: neither, no file (a pipe would be waited for), or one elsewhere.
    """
    if cell and cell["bytes"]:
        return bytes(cell["bytes"])
    if not cell or not cell["path"]:
        raise InputError(f"{place}: holds no image; take the row out first")
    path = Path(os.path.abspath(cell["path"]))  # as written: links below the folder are the user's own
    if not (local and _lies_in(path, local)) and not _is_cached(path):
        raise InputError(f"{place}: names the file {cell['path']}; a table must bring its images along or beside it")
    try:
        if not path.is_file():
            raise FileNotFoundError("no such file")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{place}: {cell['path']} cannot be read ({error})") from error
    if not content:
        raise InputError(f"{place}: {cell['path']} is empty; take the row out first")
    return content


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a path begins with the folder as the user wrote it, or as the library does, which follows its links."""
    return any(path.is_relative_to(start) for start in (os.path.abspath(folder), os.path.realpath(folder)))


def _is_cached(path: Path) -> bool:
    """Whether the library itself downloaded this file."""
    from huggingface_hub import constants

    caches = (constants.HF_HUB_CACHE, _cache_root())
    return any(path.resolve().is_relative_to(Path(cache).resolve()) for cache in caches)


def require_unseen(train: Split | DenseSplit, test: Split | DenseSplit) -> None:
    """Refuse to test on the train images themselves; say how many test images train holds too.

    Raises:
        InputError: both splits hold the very same images.
    """
    shared = int(np.isin(test.ids, train.ids).sum())
    if shared == len(test) and set(train.ids) == set(test.ids):
        raise InputError("--data: train and test hold the very same images; give --data train=PATH --data test=PATH")
    if shared:
        logger.warning("%d of %d test images are in train too: the numbers flatter every model", shared, len(test))
