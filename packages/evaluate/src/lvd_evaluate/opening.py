"""Tasks of every kind, opened into what the story of an evaluation needs of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lvd_evaluate.config import DataConfig
from lvd_evaluate.errors import InputError
from lvd_evaluate.recipes import Assignment
from lvd_evaluate.tasks.tables import SPLIT_NAMES

KINDS = {  # probe: kind of task
    "knn": "classification",
    "linear": "classification",
    "logistic": "classification",
    "few_shot_knn": "classification",
    "few_shot_logistic": "classification",
    "robustness": "classification",
    "segmentation": "segmentation",
    "depth": "depth",
    "retrieval": "retrieval",
    "video": "video",
}


@dataclass(frozen=True)
class OpenTask:
    """A task as the story needs it, whatever its kind."""

    kind: str
    name: str
    fingerprint: str
    n_train: int
    n_test: int
    classes: list[str]
    limited: bool
    units: str  # what n_test counts
    ids: np.ndarray  # text [n_test]
    labels: np.ndarray  # int64 [n_test]; empty where units have no class
    content: Any  # Task, DenseTask, RetrievalTask or VideoTask


def kind_of(probes: Sequence[str]) -> str:
    """The kind of task that all of these probes read.

    Raises:
        InputError: a probe is unknown, or they read different kinds.
    """
    unknown = sorted(set(probes) - set(KINDS))
    if unknown or not probes:
        raise InputError(f"--probes {','.join(probes)}: choose among {', '.join(KINDS)}")
    kinds = {KINDS[probe]: probe for probe in probes}
    if len(kinds) > 1:
        told = " but ".join(f"{probe} reads {kind}" for kind, probe in kinds.items())
        raise InputError(f"--probes {','.join(probes)}: {told}; give each kind a task of its own in a benchmark recipe")
    return next(iter(kinds))


def open_task(assignment: Assignment) -> OpenTask:
    """Open what an assignment's probes read.

    Raises:
        InputError: the data cannot be used, or its probes read different kinds of it.
    """
    kind = kind_of(assignment.probes)
    config = assignment.config.data
    if assignment.name and not config.name:
        config = replace(config, name=assignment.name)
    if kind == "classification":
        return _open_classification(assignment, config)
    if kind == "retrieval":
        return _open_retrieval(assignment, config)
    if kind == "video":
        return _open_video(assignment, config)
    return _open_dense(assignment, config, kind)


def _open_classification(assignment: Assignment, config: DataConfig) -> OpenTask:
    from lvd_evaluate.tasks.classification import load_one_set, load_task

    extra = [value for value in assignment.data if _names_a_set(value)]
    if extra and "robustness" not in assignment.probes:
        raise InputError(f"--data {extra[0]}: further test sets are read by the probe robustness alone")
    data = [value for value in assignment.data if value not in extra]
    if assignment.config.knn.leave_one_out and set(assignment.probes) != {"knn"}:
        raise InputError("knn.leave_one_out=true: kNN alone can leave one out; give it a task of its own")
    task = load_one_set(data, config) if assignment.config.knn.leave_one_out else load_task(data, config)
    sets: list[Any] = []
    if "robustness" in assignment.probes:
        from lvd_evaluate.tasks.robustness import load_robustness_sets

        sets = load_robustness_sets(extra, config, assignment.config.robustness, task)
    return OpenTask(
        kind="classification",
        name=task.name,
        fingerprint="-".join([task.fingerprint, *(found.fingerprint for found in sets)]),
        n_train=len(task.train),
        n_test=len(task.test),
        classes=task.classes,
        limited=task.train.limited or task.test.limited,
        units="images",
        ids=task.test.ids,
        labels=task.test.labels,
        content=(task, sets),
    )


def _names_a_set(value: str) -> bool:
    """Whether a value of --data is NAME=PATH with a name other than train and test."""
    name, marker, _ = value.partition("=")
    return bool(marker) and name not in SPLIT_NAMES and not Path(value).exists()


def _open_dense(assignment: Assignment, config: DataConfig, kind: str) -> OpenTask:
    from lvd_evaluate.tasks.dense import load_dense_task

    task = load_dense_task(assignment.data, config, kind)
    return OpenTask(
        kind=kind,
        name=task.name,
        fingerprint=task.fingerprint,
        n_train=len(task.train),
        n_test=len(task.test),
        classes=task.classes,
        limited=task.train.limited or task.test.limited,
        units="images",
        ids=task.test.ids,
        labels=np.empty(0, dtype=np.int64),
        content=task,
    )


def _open_retrieval(assignment: Assignment, config: DataConfig) -> OpenTask:
    from lvd_evaluate.tasks.retrieval import load_retrieval_task

    task = load_retrieval_task(assignment.data, config)
    return OpenTask(
        kind="retrieval",
        name=task.name,
        fingerprint=task.fingerprint,
        n_train=len(task.database),
        n_test=len(task.queries),
        classes=[],
        limited=task.queries.limited or task.database.limited,
        units="queries",
        ids=task.queries.ids,
        labels=np.empty(0, dtype=np.int64),
        content=task,
    )


def _open_video(assignment: Assignment, config: DataConfig) -> OpenTask:
    from lvd_evaluate.tasks.video import load_video_task

    task = load_video_task(assignment.data, config, assignment.config.video.frames)
    return OpenTask(
        kind="video",
        name=task.name,
        fingerprint=task.fingerprint,
        n_train=len(task.train),
        n_test=len(task.test),
        classes=task.classes,
        limited=task.train.frames.limited or task.test.frames.limited,
        units="clips",
        ids=task.test.ids,
        labels=task.test.labels,
        content=task,
    )
