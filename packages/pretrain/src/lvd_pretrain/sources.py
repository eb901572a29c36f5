"""Where images come from: image folders, tars and Hugging Face datasets, read as encoded bytes by index."""

from __future__ import annotations

import atexit
import bisect
import functools
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lvd_pretrain.config import DataConfig
from lvd_pretrain.errors import InputError
from lvd_pretrain.hub import prefer_cache_if_unreachable
from lvd_pretrain.tars import expand_braces, open_tars

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class ImageSource(Protocol):
    """Encoded images by index; `fingerprint` changes with the names and sizes of the files that hold them."""

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, index: int) -> bytes:
        """Bytes of one image file."""


@dataclass(frozen=True)
class FolderSource:
    """Image files below a folder, in order of their paths."""

    paths: list[Path]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> bytes:
        """Bytes of one image file."""
        return self.paths[index].read_bytes()


@dataclass(frozen=True)
class TableSource:
    """An image column of a memory-mapped Hugging Face dataset."""

    table: Any  # datasets.Dataset, its image column not decoded
    column: str
    fingerprint: str
    names: Any = None  # the column that names sources, or None
    home: Path | None = None  # folder whose files its rows may name

    def __len__(self) -> int:
        return len(self.table)

    def read(self, index: int) -> bytes:
        """Bytes of one image file.

        Raises:
            OSError or ValueError: the cell is empty, or names a file that cannot be read.
        """
        return encoded_image(self.table[index][self.column], self.home)


@dataclass(frozen=True)
class JoinedSource:
    """Several sources one after the other."""

    parts: list[ImageSource]
    starts: list[int]  # index of each part's first image
    fingerprint: str

    def __len__(self) -> int:
        return self.starts[-1] + len(self.parts[-1])

    def read(self, index: int) -> bytes:
        """Bytes of one image file."""
        part = bisect.bisect_right(self.starts, index) - 1
        return self.parts[part].read(index - self.starts[part])


def encoded_image(cell: Any, home: Path | None) -> bytes:
    """Bytes of an image cell that was not decoded.

    Args:
        cell: bytes, or bytes and the path of a file.
        home: folder that such a file must lie in, unless the library itself downloaded it: a table may name any path.

    Raises:
        OSError or ValueError: the cell is empty, or names no file (a pipe would be waited for) or one elsewhere.
    """
    if isinstance(cell, dict):
        cell = cell["bytes"] if cell["bytes"] is not None or not cell["path"] else _read_named(cell["path"], home)
    if not cell:
        raise ValueError("a row holds no image")
    return cell


def _read_named(name: str, home: Path | None) -> bytes:
    import datasets
    from huggingface_hub import constants

    path = Path(os.path.abspath(name))  # as written: links below the folder are the user's own
    homes = [os.path.abspath(folder) for folder in (constants.HF_HUB_CACHE, datasets.config.HF_DATASETS_CACHE)]
    if home:  # as the user wrote it, and as the library does, which follows its links
        homes += [os.path.abspath(home), os.path.realpath(home)]
    if not any(path.is_relative_to(folder) for folder in homes) or not path.is_file():
        raise ValueError(f"a row names {name}, which is no file of its dataset")
    return path.read_bytes()


def open_images(config: DataConfig) -> ImageSource:
    """Open `data.path`, or every one of `data.paths`, in that order.

    Raises:
        InputError: nothing there, no images in it, or a hub that cannot be reached.
    """
    if not config.paths:
        return _open_path(config)
    parts = [_open_path(replace(config, path=path, paths={}, weights={})) for path in config.paths.values()]
    listing = [(name, part.fingerprint) for name, part in zip(config.paths, parts, strict=True)]
    starts = np.cumsum([0, *(len(part) for part in parts[:-1])]).tolist()
    return JoinedSource(parts, starts, hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:16])


def source_members(source: ImageSource, config: DataConfig) -> dict[str, NDArray[np.int64]]:
    """Row numbers by name of source: of `data.paths`, or of `data.source_column`."""
    if isinstance(source, JoinedSource):
        sizes = zip(config.paths, source.starts, source.parts, strict=True)
        return {name: np.arange(start, start + len(part)) for name, start, part in sizes}
    if not isinstance(source, TableSource) or source.names is None:
        raise InputError(
            f"data.weights: {config.path} has no column '{config.source_column}' that says which source an image is "
            "from; name the column in data.source_column, or give data.paths={name: path, ...}"
        )
    codes = source.names.combine_chunks().dictionary_encode()
    order = np.argsort(codes.indices.fill_null(-1).to_numpy(), kind="stable")
    ordered = codes.indices.fill_null(-1).to_numpy()[order]
    bounds = np.searchsorted(ordered, np.arange(len(codes.dictionary) + 1))
    members = {str(name): order[bounds[i] : bounds[i + 1]] for i, name in enumerate(codes.dictionary.to_pylist())}
    return members | ({"null": order[: bounds[0]]} if bounds[0] else {})


def _open_path(config: DataConfig) -> ImageSource:
    """One image folder, Parquet file, set of tars, Hugging Face dataset folder (Dataset v1 is one) or hub id."""
    if not config.path:
        raise InputError("data.path is empty: give an image folder, a Hugging Face dataset folder or a hub id")
    if config.path.endswith(".tar"):
        tars = [Path(name) for name in expand_braces(config.path)]
        return _open_tars(tars)
    path = Path(config.path)
    if path.is_dir():
        files = sorted(walk_files(path))
        if any(file.suffix in {".parquet", ".arrow"} for file in files):
            tables = [file for file in files if file.suffix in {".parquet", ".arrow"}]
            return _open_table(config, fingerprint_files(path, tables), folder=path)
        if any(file.suffix == ".tar" for file in files):
            return _open_tars([file for file in files if file.suffix == ".tar"])
        images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        if not images:
            raise InputError(f"data.path={path}: no image, no tar and no Parquet file in this folder or below it")
        return FolderSource(images, fingerprint_files(path, images))
    if path.is_file():
        if path.suffix != ".parquet":
            raise InputError(f"data.path={path}: not a folder and not a .parquet file")
        return _open_table(config, fingerprint_files(path.parent, [path]), parquet=path)
    if HUB_ID.fullmatch(config.path):
        return _open_table(config, None)
    raise InputError(f"data.path={path}: no such file or folder")


def _open_tars(tars: list[Path]) -> ImageSource:
    missing = next((tar for tar in tars if not tar.is_file()), None)
    if missing is not None:
        raise InputError(f"data.path: {missing}: no such file")
    root = Path(os.path.commonpath([tar.absolute().parent for tar in tars]))
    return open_tars(tars, IMAGE_SUFFIXES, fingerprint_files(root, [tar.absolute() for tar in tars]))


def walk_files(folder: Path) -> Iterable[Path]:
    """Every file below a folder but hidden ones and those in hidden folders; pipes and dangling links are none."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = (Path(parent, name) for name in names if not name.startswith("."))
        yield from (file for file in files if file.is_file())


def fingerprint_files(root: Path, files: list[Path]) -> str:
    """Sixteen hexadecimal digits that change with the names below `root` and the sizes of files."""
    listing = [(str(file.relative_to(root)), file.stat().st_size) for file in files]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:16]


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
    print(f"{root} cannot be written: tables are cached in {folder} until the end; HF_HOME chooses", file=sys.stderr)
    return folder


def _cache_folder(folder: Path) -> str:
    """Where the library may cache a local dataset; its own key is the folder's name and card, not its files."""
    state = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(walk_files(folder))]
    return str(_cache_root() / f"lvd-{hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]}")


def open_labelled(config: DataConfig, label: str) -> tuple[TableSource, NDArray[np.int64]]:
    """A labelled set: an image folder whose subfolders are classes, or a dataset with a column of labels.

    Returns:
        The images and their labels, numbered [images].

    Raises:
        InputError: nothing there, or no such column.
    """
    path = Path(config.path)
    folder, parquet = (path, None) if path.is_dir() else (None, path if path.is_file() else None)
    table = _load_table(config, folder, parquet, section="knn")
    if label not in table.column_names:
        raise InputError(f"knn.label={label}: not among the columns {', '.join(table.column_names)} of {config.path}")
    _, numbers = np.unique(np.asarray(table[label]), return_inverse=True)
    return _image_column(config, table, None, section="knn"), numbers.astype(np.int64)


def _open_table(
    config: DataConfig, fingerprint: str | None, folder: Path | None = None, parquet: Path | None = None
) -> TableSource:
    return _image_column(config, _load_table(config, folder, parquet), fingerprint)


def _load_table(config: DataConfig, folder: Path | None, parquet: Path | None, section: str = "data") -> Any:
    import datasets

    datasets.disable_progress_bars()
    try:
        if parquet is not None:
            files = {config.split: str(parquet)}
            table = datasets.load_dataset("parquet", data_files=files, split=config.split, cache_dir=str(_cache_root()))
        elif folder is not None and ((folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()):
            saved = datasets.load_from_disk(str(folder))
            table = saved[config.split] if isinstance(saved, datasets.DatasetDict) else saved
        else:
            if folder is None:
                prefer_cache_if_unreachable()
            cache = _cache_folder(folder) if folder is not None else str(_cache_root())
            table = datasets.load_dataset(config.path, split=config.split, cache_dir=cache)
    except Exception as error:  # the library raises a dozen kinds for a bad folder, a lost network, an unknown split
        reason = " ".join(str(error).split())[:300]
        where = "" if Path(config.path).exists() else "no such file or folder here, and on the hub "
        raise InputError(
            f"{section}.path={config.path}: {where}split '{config.split}' cannot be opened ({reason})"
        ) from error
    return table


def _image_column(config: DataConfig, table: Any, fingerprint: str | None, section: str = "data") -> TableSource:
    import datasets

    if config.column not in table.column_names:
        raise InputError(f"{section}.column={config.column}: not among the columns {', '.join(table.column_names)}")
    feature = table.features[config.column]
    if not isinstance(feature, datasets.Image) and "binary" not in str(getattr(feature, "dtype", feature)):
        raise InputError(f"{section}.column={config.column}: holds {feature}, not images")
    names = table.data.column(config.source_column) if config.source_column in table.column_names else None
    if names is not None and table._indices is not None:  # a saved selection: rows lie elsewhere in the table
        names = names.take(table._indices.column(0))
    table = table.select_columns([config.column])
    if isinstance(feature, datasets.Image):
        table = table.cast_column(config.column, datasets.Image(decode=False))
    return TableSource(table, config.column, fingerprint or table._fingerprint, names, home_of(config.path))


def home_of(path: str) -> Path | None:
    """The folder that local data lie in; None for a hub id."""
    local = Path(path)
    return (local if local.is_dir() else local.parent) if local.exists() else None
