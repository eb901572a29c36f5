"""Queries and a database in: which images of the database are right, wrong or neither for each query."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lvd_evaluate.config import DataConfig
from lvd_evaluate.contracts import Split
from lvd_evaluate.errors import InputError
from lvd_evaluate.images import decode_rgb
from lvd_evaluate.tasks.tables import load_splits, open_table, own_folder, read_cell, task_name

ROLES = ("queries", "database")
LISTS = ("easy", "hard", "junk")
READ_ROWS = 512  # rows per read while the content is hashed
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judgement:
    """Rows of the database, int64 each, that are right for one query, right but hard, or neither right nor wrong."""

    easy: np.ndarray
    hard: np.ndarray
    junk: np.ndarray


@dataclass(frozen=True)
class RetrievalTask:
    """Find the right images of the database. By label: the same label is right; by lists: what the lists say."""

    name: str
    by_label: bool
    queries: Split
    database: Split
    leave_one_out: bool = False  # one set: every image is a query, and itself junk
    cropped: bool = False  # whether queries are cut to their boxes
    judgements: Sequence[Judgement] = field(default=(), repr=False)  # by lists: one per query

    @property
    def fingerprint(self) -> str:
        """Names both sets and what is right."""
        digest = hashlib.sha256(repr(self.leave_one_out).encode())
        for found in self.judgements:
            for rows in (found.easy, found.hard, found.junk):
                digest.update(rows.tobytes() + b";")
        return f"{self.queries.fingerprint}-{self.database.fingerprint}-{digest.hexdigest()[:8]}"

    def judge(self, query: int) -> Judgement:
        """What is right for the query of that row."""
        if not self.by_label:
            return self.judgements[query]
        same = np.flatnonzero(self.database.labels == self.queries.labels[query])
        nothing = np.empty(0, dtype=np.int64)
        if self.leave_one_out:
            return Judgement(same[same != query], nothing, np.array([query], dtype=np.int64))
        return Judgement(same, nothing, nothing)


def load_retrieval_task(data: Sequence[str], config: DataConfig) -> RetrievalTask:
    """Open queries and database; without a database every image looks for its like among the others (leave-one-out).

    Relevance is by lists if the queries have one of the columns easy, hard, junk (ids of the database), else by label.

    Args:
        data: the values of --data: queries=PATH and database=PATH, a PATH that holds both folders, or one set.
        config: columns, limits and the task's name.

    Raises:
        InputError: nothing there, no such column, ids that the database does not hold, a box without a pixel, or
            labels under which no query has anything to find.
    """
    sources = find_sets(data)
    columns = {role: _columns(source, role, config) for role, source in sources.items()}
    lists = [key for key in LISTS if key in columns["queries"]]
    if lists and "database" not in sources:
        raise InputError("--data: lists of right images need a database; add --data database=PATH")
    always = {"image": config.image} | ({} if lists else {"label": config.label})
    limits = {"queries": config.limit_test, "database": config.limit_train}
    tables = {
        role: open_table(source, "test", always | columns[role], limit=limits[role]) for role, source in sources.items()
    }
    unlabelled = {role: np.zeros(len(table), dtype=np.int64) for role, table in tables.items()}
    labels = unlabelled if lists else _joint_labels(tables, config)
    splits = {
        role: _build_split(role, table, labels[role], config, local=own_folder(sources[role]))
        for role, table in tables.items()
    }
    task = RetrievalTask(
        name=config.name or task_name([sources["queries"]]),
        by_label=not lists,
        queries=splits["queries"],
        database=splits.get("database", splits["queries"]),
        leave_one_out="database" not in splits,
        cropped="box" in columns["queries"],
        judgements=_judgements(tables, lists, config) if lists else (),
    )
    if not any(len(task.judge(row).easy) + len(task.judge(row).hard) for row in range(len(task.queries))):
        raise InputError(f"{sources['queries']}: no query has a right image in the database")
    how = "by label" if task.by_label else "by lists"
    logger.info("task %s: %d queries, %d images, %s", task.name, len(task.queries), len(task.database), how)
    return task


def find_sets(data: Sequence[str]) -> dict[str, str]:
    """Which path or hub id holds the queries and which the database, if there is one.

    Raises:
        InputError: a set is named twice, or the queries not at all.
    """
    found: dict[str, str] = {}
    for value in data:
        role, marker, path = value.partition("=")
        folders = {name: str(Path(value) / name) for name in ROLES if (Path(value) / name).is_dir()}
        given = {role: path} if marker and role in ROLES else folders if len(folders) == 2 else {"queries": value}
        for name, source in given.items():
            if name in found:
                raise InputError(f"--data {value}: the {name} are given twice; write queries=PATH and database=PATH")
            found[name] = source
    if "queries" not in found:
        raise InputError("--data: no queries given; add --data queries=PATH")
    return found


def _columns(source: str, role: str, config: DataConfig) -> dict[str, str]:
    """Settings that name columns of one set, image and label aside: those that are there or were set by hand."""
    there = {name for table in load_splits(source).values() for name in table.column_names}
    keys = ("id",) if role == "database" else (*LISTS, "box")
    chosen = {key: getattr(config, key) for key in keys if getattr(config, key) is not None}
    return {key: name for key, name in chosen.items() if name in there or name != getattr(DataConfig, key)}


def _joint_labels(tables: dict[str, Any], config: DataConfig) -> dict[str, np.ndarray]:
    """Labels of both sets as one numbering, int64 [N] each; names where there are names."""
    values: dict[str, list[Any]] = {}
    for role, table in tables.items():
        names = getattr(table.features[config.label], "names", None)
        column = list(table[config.label])
        bare = next((row for row, value in enumerate(column) if value is None or (names and value < 0)), None)
        if bare is not None:
            raise InputError(f"{role} row {bare}: no label in column '{config.label}'; take such rows out first")
        values[role] = [str(names[value]) if names else value for value in column]
    kinds = {type(value) for column in values.values() for value in column}
    if len(kinds) > 1 or not kinds <= {int, str}:
        raise InputError(
            f"column '{config.label}' holds {', '.join(sorted(kind.__name__ for kind in kinds))}; "
            "queries and database need integers or text, both alike (set data.label=NAME)"
        )
    index = {
        value: place for place, value in enumerate(sorted({value for column in values.values() for value in column}))
    }
    return {role: np.array([index[value] for value in column], dtype=np.int64) for role, column in values.items()}


def _judgements(tables: dict[str, Any], lists: list[str], config: DataConfig) -> list[Judgement]:
    """Lists of ids as rows of the database."""
    queries, database = tables["queries"], tables["database"]
    named = config.id in database.column_names
    ids = list(database[config.id]) if named else list(range(len(database)))
    rows = {value: row for row, value in enumerate(ids)}
    if len(rows) < len(ids):
        twice = next(value for row, value in enumerate(ids) if rows[value] != row)
        raise InputError(f"database: the id {twice!r} stands in more than one row of column '{config.id}'")
    columns = {key: list(queries[getattr(config, key)]) for key in lists}
    found = []
    for query in range(len(queries)):
        parts = {key: _rows(columns[key][query] or [], rows, f"queries row {query}, {key}") for key in lists}
        every = np.concatenate(list(parts.values()))
        if len(np.unique(every)) < len(every):
            raise InputError(f"queries row {query}: an id stands twice among {', '.join(lists)}")
        found.append(Judgement(**{key: parts.get(key, np.empty(0, dtype=np.int64)) for key in LISTS}))
    return found


def _rows(ids: Any, rows: dict[Any, int], place: str) -> np.ndarray:
    if not isinstance(ids, list):
        raise InputError(f"{place}: holds {ids!r}, not a list of ids of the database")
    unknown = [value for value in ids if value not in rows]
    if unknown:
        some = ", ".join(repr(value) for value in unknown[:3])
        raise InputError(
            f"{place}: the database holds no image with the id {some} (ids: column data.id, or row numbers)"
        )
    return np.array([rows[value] for value in ids], dtype=np.int64)


def _build_split(role: str, table: Any, labels: np.ndarray, config: DataConfig, *, local: Path | None) -> Split:
    boxes = list(table[config.box]) if role == "queries" and config.box in table.column_names else None

    def read(start: int, stop: int, *, cut: bool = True) -> list[bytes]:
        cells = table[start:stop][config.image]
        files = [read_cell(cell, f"{role} row {row}", local=local) for row, cell in enumerate(cells, start)]
        if boxes is None or not cut:
            return files
        return [cut_box(file, boxes[row], f"{role} row {row}") for row, file in enumerate(files, start)]

    ids = np.array(
        [
            hashlib.sha256(content + (repr(boxes[row]).encode() if boxes else b"")).hexdigest()
            for start in range(0, len(table), READ_ROWS)
            for row, content in enumerate(read(start, start + READ_ROWS, cut=False), start)
        ]
    )
    digest = hashlib.sha256("".join(ids).encode() + labels.tobytes()).hexdigest()
    limited = (config.limit_test if role == "queries" else config.limit_train) is not None
    return Split(role, partial(read), labels, ids, digest[:16], limited=limited)


def cut_box(content: bytes, box: Sequence[float] | None, place: str) -> bytes:
    """The part of an image inside x0 y0 x1 y1 in pixels, rounded and clipped to the image, as a PNG; None: as it is.

    Raises:
        InputError: no image, not four finite numbers, or nothing of the box lies inside the image.
    """
    if box is None:
        return content
    numbers = np.asarray(box if isinstance(box, (list, tuple)) else [], dtype=np.float64)
    if numbers.shape != (4,) or not np.isfinite(numbers).all():
        raise InputError(f"{place}: the box {box} is not x0 y0 x1 y1 in pixels")
    try:
        image = decode_rgb(content)
    except InputError as error:
        raise InputError(f"{place} {error}") from error
    left, top, right, bottom = (
        int(min(max(round(number), 0), side))
        for number, side in zip(numbers, (image.width, image.height) * 2, strict=True)
    )
    if right <= left or bottom <= top:
        raise InputError(f"{place}: the box {box} holds no pixel of the image ({image.width}x{image.height})")
    buffer = io.BytesIO()
    image.crop((left, top, right, bottom)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
