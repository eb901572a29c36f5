"""What single classes say: ours minus a baseline's, and which are taken for one another; from the evidence on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lvd_evaluate.reporting.confusions import ConfusedPair, confusion_pairs
from lvd_evaluate.reporting.tables import Column, Table
from lvd_evaluate.scoring.results import Row, setting_name

MOST_CLASSES = 10_000_000
SHOWN = 12  # classes per figure: those that differ most


@dataclass(frozen=True)
class ClassDifferences:
    """Ours minus a baseline's value of the classes that differ most, best first."""

    column: Column
    baseline: str
    classes: list[str]
    differences: np.ndarray  # float64 [n], shares of 1


@dataclass(frozen=True)
class Confusions:
    """The commonest mistakes of the model under test in one column."""

    column: Column
    pairs: list[ConfusedPair]


def confusions(table: Table, folder: Path) -> list[Confusions]:
    """Of each column whose evidence holds predictions: what the model under test takes for what."""
    found = []
    for column, row in table.lines[table.ours].items():
        path, name = evidence(row, folder), f"prediction {setting_name(row.setting)}"
        if row.status != "measured" or not path.is_file():
            continue
        with np.load(path, allow_pickle=False) as arrays:
            if name not in arrays:
                continue
            labels, predictions = arrays["label"], arrays[name]
        _require_numbers(labels, predictions)
        names = class_names(row, folder, max(row.n_classes, int(max(labels.max(), predictions.max())) + 1))
        pairs = confusion_pairs(labels, predictions, names, SHOWN)
        found += [Confusions(column, pairs)] if pairs else []
    return found


def evidence(row: Row, folder: Path) -> Path:
    """Where what every test unit contributed to a row lies."""
    return folder / "predictions" / f"{row.run}.npz"


def class_differences(table: Table, folder: Path) -> list[ClassDifferences]:
    """Of each column whose evidence tells classes apart: the model under test minus its first measured baseline."""
    found = []
    for column in table.columns:
        ours = table.lines[table.ours].get(column)
        others = [line[column] for spec, line in table.lines.items() if spec != table.ours and column in line]
        theirs = next((row for row in others if row.status == "measured"), None)
        if ours is None or theirs is None or ours.status != "measured":
            continue
        pair = [class_values(row, folder) for row in (ours, theirs)]
        if any(values is None for values in pair) or len({len(values) for values in pair if values is not None}) > 1:
            continue
        delta = np.asarray(pair[0]) - np.asarray(pair[1])
        there = np.flatnonzero(np.isfinite(delta) & (delta != 0))
        most = there[np.argsort(-np.abs(delta[there]), kind="stable")][:SHOWN]
        most = most[np.argsort(-delta[most], kind="stable")]
        if len(most):
            names = class_names(ours, folder, len(delta))
            found.append(ClassDifferences(column, theirs.model, [names[number] for number in most], delta[most]))
    return found


def class_values(row: Row, folder: Path) -> np.ndarray | None:
    """Value of each class, float64 [C], NaN for classes that do not occur; None where a metric has no classes."""
    path = evidence(row, folder)
    if not path.is_file():
        return None
    name = setting_name(row.setting)
    with np.load(path, allow_pickle=False) as arrays:
        if f"prediction {name}" in arrays:
            labels, predictions = arrays["label"], arrays[f"prediction {name}"]
            _require_numbers(labels, predictions)
            count = max(row.n_classes, int(labels.max()) + 1)
            sums = np.bincount(labels, weights=predictions == labels, minlength=count)
            return _ratio(sums, np.bincount(labels, minlength=count))
        if f"numerators {row.metric} {name}" not in arrays:
            return None
        numerators, denominators = (arrays[f"{part} {row.metric} {name}"] for part in ("numerators", "denominators"))
    return _ratio(numerators.sum(axis=0), denominators.sum(axis=0)) if numerators.shape[1] > 1 else None


def class_names(row: Row, folder: Path, count: int) -> list[str]:
    """Names of the classes if the evidence holds them, else their numbers."""
    with np.load(evidence(row, folder), allow_pickle=False) as arrays:
        names = [str(name) for name in arrays["classes"]] if "classes" in arrays else []
    return names if len(names) == count else [f"class {number}" for number in range(count)]


def _require_numbers(labels: np.ndarray, predictions: np.ndarray) -> None:
    """Refuse what cannot be numbers of classes: a count of them up to the largest would fill the memory."""
    both = np.stack([labels, predictions])
    if both.ndim != 2 or both.dtype.kind not in "iu" or both.min() < -1 or both.max() >= MOST_CLASSES:
        raise ValueError("labels and predictions are no numbers of classes")


def _ratio(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    return np.where(denominators > 0, numerators / np.maximum(denominators, 1e-12), np.nan)
