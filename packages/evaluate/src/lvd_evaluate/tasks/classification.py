"""Labelled images in: two tables become one classification Task."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lvd_evaluate.config import DataConfig
from lvd_evaluate.contracts import Split, Task
from lvd_evaluate.errors import InputError, printable
from lvd_evaluate.tasks.tables import find_sources, open_table, own_folder, read_cell, require_unseen, task_name

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
    columns = {"image": config.image, "label": config.label}
    limits = {"train": config.limit_train, "test": config.limit_test}
    tables = {
        name: open_table(source, name, columns, limit=limits[name], must_name=one_source)
        for name, source in sources.items()
    }
    classes, labels = index_labels(tables, config)
    splits = {
        name: build_split(
            name,
            table,
            labels[name],
            config.image,
            local=own_folder(sources[name]),
            limited=limits[name] is not None,
        )
        for name, table in tables.items()
    }
    require_unseen(splits["train"], splits["test"])
    task = Task(config.name or task_name(data), classes, splits["train"], splits["test"])
    logger.info(
        "task %s: %d train, %d test images, %d classes", task.name, len(task.train), len(task.test), len(classes)
    )
    return task


def load_one_set(data: Sequence[str], config: DataConfig) -> Task:
    """Open one set of images that is train and test at once, for leave-one-out.

    Args:
        data: one value of --data, PATH or train=PATH; a PATH with several splits gives its train split.
        config: columns, `limit_train` and the task's name.

    Raises:
        InputError: more than one value, or as load_task.
    """
    if len(data) != 1:
        raise InputError(f"--data: {len(data)} values, but knn.leave_one_out=true takes one set of images")
    source = data[0].removeprefix("train=")
    columns, limit = {"image": config.image, "label": config.label}, config.limit_train
    table = open_table(source, "train", columns, limit=limit)
    classes, labels = index_labels({"train": table, "test": table}, config)
    local = own_folder(source)
    split = build_split("train", table, labels["train"], config.image, local=local, limited=limit is not None)
    task = Task(config.name or task_name(data), classes, split, split)
    logger.info("task %s: %d images, each classified by all others, %d classes", task.name, len(split), len(classes))
    return task


def index_labels(tables: dict[str, Any], config: DataConfig) -> tuple[list[str], dict[str, np.ndarray]]:
    """Classes as train names or holds them, and the labels of both tables as their numbers.

    Raises:
        InputError: a label is missing, is neither name nor integer, or is one of test that train does not have.
    """
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
    return [printable(str(value)) for value in classes], labels


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


def build_split(
    name: str, table: Any, labels: np.ndarray, column: str, *, local: Path | None, limited: bool = False
) -> Split:
    """The images of a table's column with their labels, int64 [N], hashed.

    Args:
        name: for messages.
        table: a `datasets.Dataset` with undecoded images.
        labels: of its rows.
        column: that holds the images.
        local: folder whose files the table may name.
        limited: whether the user asked for the first n only.

    Raises:
        InputError: a row holds no image, or names a file that cannot be read.
    """

    def read(start: int, stop: int) -> list[bytes]:
        cells = table[start:stop][column]
        return [read_cell(cell, f"{name} row {row}", local=local) for row, cell in enumerate(cells, start)]

    ids = np.array(
        [
            hashlib.sha256(content).hexdigest()
            for start in range(0, len(table), READ_ROWS)
            for content in read(start, start + READ_ROWS)
        ]
    )
    digest = hashlib.sha256("".join(ids).encode() + labels.tobytes()).hexdigest()
    return Split(name, read, labels, ids, digest[:16], limited)
