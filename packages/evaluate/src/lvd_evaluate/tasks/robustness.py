"""Further test sets for the heads of a base task: other images of its classes, several right answers, corruptions."""

from __future__ import annotations

import copy
import hashlib
import io
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from lvd_evaluate.config import DataConfig, RobustnessConfig
from lvd_evaluate.contracts import Encoder, Split, Task
from lvd_evaluate.errors import InputError
from lvd_evaluate.features import transform_image
from lvd_evaluate.tasks.classification import build_split
from lvd_evaluate.tasks.corruptions import SEVERITIES, VERSION, corrupt
from lvd_evaluate.tasks.tables import SPLIT_NAMES, load_splits, open_table, own_folder, require_unseen

OWN_SET = "corrupted"  # name of the set made here
OWN_RESIZE, OWN_CROP = 256, 224  # pixels: ImageNet-C's preparation, before the corruption
NONE = -1  # fills `accepted`
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corruptions:
    """Which corruption each image of a set shows."""

    names: tuple[str, ...]
    corruption: np.ndarray  # int64 [N], index into names
    severity: np.ndarray  # int64 [N]
    unit: np.ndarray  # int64 [N]: the image that was corrupted, the same number for all its versions


@dataclass(frozen=True)
class RobustnessSet:
    """A test set whose images are classified by heads trained elsewhere."""

    name: str
    images: Split
    accepted: np.ndarray  # int64 [N, A]: classes of the base task that are right, each row filled up with NONE
    classes: np.ndarray  # int64 [K]: classes that may be answered
    corruptions: Corruptions | None = None

    @property
    def fingerprint(self) -> str:
        """Names the set, which its rows are called by, its images and all that is known of them."""
        parts = [self.accepted, self.classes]
        if self.corruptions:
            parts += [self.corruptions.corruption, self.corruptions.severity, self.corruptions.unit]
        named = (self.name, self.images.fingerprint, self.corruptions and self.corruptions.names)
        digest = hashlib.sha256(repr(named).encode())
        for part in parts:
            digest.update(part.tobytes())
        return digest.hexdigest()[:16]


def load_robustness_sets(
    data: Sequence[str], config: DataConfig, settings: RobustnessConfig, task: Task
) -> list[RobustnessSet]:
    """Open every further set and make the corrupted one that is asked for.

    Args:
        data: NAME=PATH each; a PATH as of tasks.load_task, of which the test split is taken. The label column holds a
            name or integer as of the base task, or a list of those of which any is right (rows without are left out).
            Integers stand for classes of that integer, or by number where the base task names its classes.
        config: columns; `limit_test` counts images here too, per corruption and severity where there are some.
        settings: restriction, columns of corruptions, corruptions to make.
        task: the base.

    Raises:
        InputError: no set at all, one cannot be opened, or holds labels that are none of the task's classes.
    """
    sets = []
    for value in data:
        name, _, source = value.partition("=")
        sets.append(_open_set(name, source, config, settings, task))
    if settings.corruptions:
        sets.append(corrupt_images(task.test, settings.corruptions, len(task.classes)))
    if not sets:
        raise InputError(
            "robustness: no further test set; add --data NAME=PATH or robustness.corruptions=[noise,blur,contrast,jpeg]"
        )
    if len({found.name for found in sets}) < len(sets):
        raise InputError(f"robustness: two sets are called the same: {', '.join(found.name for found in sets)}")
    return sets


def encoder_for(found: RobustnessSet, encoder: Encoder) -> Encoder:
    """How an encoder sees a set: corrupted images are crops already, so no border is cut off them again."""
    if found.corruptions is None:
        return encoder
    twin = copy.copy(encoder)
    twin.resize_size = encoder.image_size
    return twin


def corrupt_images(split: Split, names: Sequence[str], num_classes: int) -> RobustnessSet:
    """Every image of a split under each corruption at five severities, one severity after the other.

    The centre crop of 224 pixels is corrupted, so that encoders of every size see the same image.
    """
    count, levels = len(split), len(SEVERITIES)
    cells = len(names) * levels
    cell, unit = np.divmod(np.arange(cells * count), count)
    corruption, severity = cell // levels, np.array(SEVERITIES)[cell % levels]

    def make(row: int) -> bytes:
        image = transform_image(split.read(unit[row], unit[row] + 1)[0], OWN_RESIZE, OWN_CROP).transpose(1, 2, 0)
        generator = np.random.default_rng((int(severity[row]), int(unit[row])))
        buffer = io.BytesIO()
        from PIL import Image

        Image.fromarray(corrupt(image, names[corruption[row]], int(severity[row]), generator)).save(buffer, "BMP")
        return buffer.getvalue()

    def read(start: int, stop: int) -> list[bytes]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(make, range(start, min(stop, len(unit)))))

    ids = np.array([f"{split.ids[u]}/{names[c]}{s}" for u, c, s in zip(unit, corruption, severity, strict=True)])
    labels = split.labels[unit]
    digest = hashlib.sha256(repr((VERSION, split.fingerprint, tuple(names))).encode()).hexdigest()[:16]
    return RobustnessSet(
        OWN_SET,
        Split(OWN_SET, read, labels, ids, digest, split.limited),
        labels[:, None],
        np.arange(num_classes),
        Corruptions(tuple(names), corruption, severity, unit),
    )


def _open_set(name: str, source: str, config: DataConfig, settings: RobustnessConfig, task: Task) -> RobustnessSet:
    columns = {"image": config.image, "label": config.label}
    extra = (settings.corruption, settings.severity)
    corrupted = set(extra) <= _column_names(source)
    if corrupted:
        columns |= dict(zip(("corruption", "severity"), extra, strict=True))
    table = open_table(source, "test", columns)
    answers = _accepted(table, name, config.label, task.classes)
    several = any(len(classes) != 1 for classes in answers)
    rows = np.array([row for row, classes in enumerate(answers) if classes], dtype=np.int64)
    if len(rows) < len(answers):
        logger.info("%s: %d images without a label are left out", name, len(answers) - len(rows))
    occurring = np.unique([label for classes in answers for label in classes])
    restricted = settings.restrict and not several and not corrupted
    accepted = np.full((len(rows), max(map(len, answers), default=0)), NONE)
    for place, row in enumerate(rows):
        accepted[place, : len(answers[row])] = answers[row]
    if not len(rows):
        raise InputError(f"{name}: no image of {source} has a label")
    corruptions = _read_corruptions(table.select(rows), name, settings, accepted) if corrupted else None
    kept = _first(config.limit_test, corruptions, len(rows))
    images = build_split(
        name,
        table.select(rows[kept]),
        accepted[kept, 0],
        config.image,
        local=own_folder(source),
        limited=len(kept) < len(rows),
    )
    require_unseen(task.train, images)
    if corruptions:
        fields = (corruptions.corruption[kept], corruptions.severity[kept], corruptions.unit[kept])
        corruptions = Corruptions(corruptions.names, *fields)
    classes = occurring if restricted else np.arange(len(task.classes))
    logger.info("%s: %d images, %d classes may be answered", name, len(images), len(classes))
    return RobustnessSet(name, images, accepted[kept], classes, corruptions)


def _column_names(source: str) -> set[str]:
    tables = load_splits(source)
    split = next((name for name in SPLIT_NAMES["test"] if name in tables), next(iter(tables)))
    return set(tables[split].column_names)


def _accepted(table: Any, name: str, column: str, classes: list[str]) -> list[list[int]]:
    """Classes that are right for each row."""
    feature = table.features[column]
    names = getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)
    place = {known: number for number, known in enumerate(classes)}
    by_number = not names and not all(known.lstrip("-").isdecimal() for known in classes)

    def number(value: Any) -> int:
        if names and isinstance(value, int) and 0 <= value < len(names):
            value = names[value]
        if by_number and isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(classes):
            return value
        if str(value) not in place:
            raise InputError(f"{name}: label {value} is none of the base task's: {', '.join(classes[:5])}, ...")
        return place[str(value)]

    return [[number(value) for value in (cell if isinstance(cell, list) else [cell])] for cell in list(table[column])]


def _read_corruptions(table: Any, name: str, settings: RobustnessConfig, accepted: np.ndarray) -> Corruptions:
    labels = [str(value).strip().lower().replace(" ", "_") for value in table[settings.corruption]]
    names, corruption = np.unique(labels, return_inverse=True)
    try:
        severity = np.array([int(value) for value in table[settings.severity]], dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: column '{settings.severity}' must hold whole numbers ({error})") from error
    return Corruptions(tuple(map(str, names)), corruption, severity, _units(corruption, severity, accepted))


def _units(corruption: np.ndarray, severity: np.ndarray, accepted: np.ndarray) -> np.ndarray:
    """Numbers of the images that were corrupted: places within each corruption and severity, if these are alike.

    Where they are not (other counts, other labels in that place) every row is a unit of its own.
    """
    place = _places(corruption, severity)
    order = np.lexsort((severity, corruption, place))
    first = order[np.searchsorted(place[order], place)]  # the first row of the same place
    counts = np.bincount(place)
    alike = (counts == counts[0]).all() and np.array_equal(accepted[first], accepted)
    return place if alike else np.arange(len(place))


def _places(corruption: np.ndarray, severity: np.ndarray) -> np.ndarray:
    """Of each row its place among those of the same corruption and severity."""
    order = np.lexsort((severity, corruption))
    pairs = np.stack([corruption, severity], axis=1)[order]
    starts = np.r_[True, (pairs[1:] != pairs[:-1]).any(axis=1)]
    ranks = np.arange(len(order)) - np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    place = np.empty_like(order)
    place[order] = ranks
    return place


def _first(limit: int | None, corruptions: Corruptions | None, count: int) -> np.ndarray:
    """Rows that a limit leaves."""
    rows = np.arange(count)
    if not limit:
        return rows
    return rows[:limit] if corruptions is None else rows[_places(corruptions.corruption, corruptions.severity) < limit]
