"""One probe on one encoder and one task: which kind of task a probe reads, and how it gets its features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lvd_evaluate.config import DataConfig, EvaluateConfig
from lvd_evaluate.contracts import Encoder, Features, Outcome, Split
from lvd_evaluate.errors import InputError
from lvd_evaluate.features import extract_features
from lvd_evaluate.recipes import Assignment
from lvd_evaluate.tables import SPLIT_NAMES

KINDS = {  # probe: kind of task
    "knn": "classification",
    "linear": "classification",
    "logistic": "classification",
    "robustness": "classification",
    "segmentation": "segmentation",
    "depth": "depth",
    "retrieval": "retrieval",
    "video": "video",
}
HEADLINES = {"segmentation": "miou", "depth": "rmse", "retrieval": "map"}  # others: data.metric


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


@dataclass(frozen=True)
class Probed:
    """What a probe found, and how long encoding took where features were kept."""

    outcomes: Sequence[Outcome]
    feature_seconds: float | None = None


def headline_metric(probe: str, config: EvaluateConfig) -> str:
    """The metric that tables show for a probe."""
    return HEADLINES.get(probe, config.data.metric)


def settings_of(probe: str, config: EvaluateConfig) -> dict[str, Any]:
    """The sections of the settings that a probe's numbers depend on."""
    sections = {"video": ("video", "linear"), "robustness": ("robustness", "linear", "knn")}.get(probe, (probe,))
    settings = config.to_dict()
    return {section: settings[section] for section in sections}


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


def run_probe(
    probe: str, task: OpenTask, encoder: Encoder, config: EvaluateConfig, store: Path, folder: Path
) -> Probed:
    """What one probe says of one encoder.

    Args:
        probe: of KINDS, reading the task's kind.
        task: opened by open_task.
        encoder: frozen.
        config: all settings.
        store: of features.
        folder: where a probe that trains for long keeps what it needs to go on after a kill, and its pictures.

    Raises:
        InputError: the encoder, the data or the settings do not allow this probe.
    """
    if task.kind == "classification":
        return _classify(probe, task, encoder, config, store, folder)
    if probe == "segmentation":
        from lvd_evaluate.probes.segmentation import evaluate_segmentation

        settings = config.segmentation
        return Probed(
            evaluate_segmentation(task.content, encoder, settings, config.protocol, config.seed, folder=folder)
        )
    if probe == "depth":
        from lvd_evaluate.probes.depth import evaluate_depth

        return Probed(evaluate_depth(task.content, encoder, config.depth, config.protocol, config.seed, folder=folder))
    if probe == "retrieval":
        return _retrieve(task, encoder, config, store)
    return _classify_clips(task, encoder, config, store)


def _extract(encoder: Encoder, splits: Sequence[Split], config: EvaluateConfig, store: Path) -> list[Features]:
    return [extract_features(encoder, split, store, config.features) for split in splits]


def _seconds(features: Sequence[Features]) -> float:
    return sum(part.seconds for part in features)


# ---- classification: kNN, linear, logistic, robustness -------------------------------------------------------------


def _open_classification(assignment: Assignment, config: DataConfig) -> OpenTask:
    from lvd_evaluate.tasks import load_task

    extra = [value for value in assignment.data if _names_a_set(value)]
    if extra and "robustness" not in assignment.probes:
        raise InputError(f"--data {extra[0]}: further test sets are read by the probe robustness alone")
    task = load_task([value for value in assignment.data if value not in extra], config)
    sets: list[Any] = []
    if "robustness" in assignment.probes:
        from lvd_evaluate.robustness_tasks import load_robustness_sets

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


def _classify(
    probe: str, opened: OpenTask, encoder: Encoder, config: EvaluateConfig, store: Path, folder: Path
) -> Probed:
    task, _ = opened.content
    train, test = _extract(encoder, [task.train, task.test], config, store)
    classes, protocol, seed = len(task.classes), config.protocol, config.seed
    outcomes: list[Outcome]
    if probe == "knn":
        from lvd_evaluate.probes.knn import evaluate_knn

        outcomes = evaluate_knn(train, test, classes, encoder, config.knn)
    elif probe == "logistic":
        from lvd_evaluate.probes.logistic import evaluate_logistic

        outcomes = evaluate_logistic(train, test, classes, encoder, config.logistic, protocol, seed)
    elif probe == "linear":
        from lvd_evaluate.probes.linear import evaluate_linear

        outcomes = evaluate_linear(
            train, test, classes, encoder, config.linear, protocol, seed, train_split=task.train, folder=folder
        )
    else:
        raise NotImplementedError(probe)
    return Probed(outcomes, _seconds([train, test]))


# ---- segmentation, depth -------------------------------------------------------------------------------------------


def _open_dense(assignment: Assignment, config: DataConfig, kind: str) -> OpenTask:
    from lvd_evaluate.dense_tasks import load_dense_task

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


# ---- retrieval -----------------------------------------------------------------------------------------------------


def _open_retrieval(assignment: Assignment, config: DataConfig) -> OpenTask:
    from lvd_evaluate.retrieval_tasks import load_retrieval_task

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


def _retrieve(opened: OpenTask, encoder: Encoder, config: EvaluateConfig, store: Path) -> Probed:
    from lvd_evaluate.probes.retrieval import evaluate_retrieval

    task = opened.content
    queries, database = _extract(encoder, [task.queries, task.database], config, store)
    outcomes = evaluate_retrieval(queries, database, task, encoder, config.retrieval)
    return Probed(outcomes, _seconds([queries, database]))
