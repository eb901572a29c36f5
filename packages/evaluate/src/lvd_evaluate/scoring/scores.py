"""From what a probe says to values with intervals, and the evidence kept on disk for comparisons image by image."""

from __future__ import annotations

import io
import logging
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lvd_evaluate.config import METRICS
from lvd_evaluate.contracts import Measurement, Outcome
from lvd_evaluate.publish import publish_bytes
from lvd_evaluate.scoring.metrics import group_accuracy, groups_of
from lvd_evaluate.scoring.results import setting_name
from lvd_evaluate.scoring.statistics import (
    Comparison,
    Interval,
    accuracy_interval,
    compare,
    compare_measurements,
    measurement_interval,
    measurement_value,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """One metric of one outcome."""

    metric: str
    value: float
    interval: Interval
    units: int  # images, clips or queries measured
    unit: str = ""
    higher_is_better: bool = True


def score_outcome(outcome: Outcome, labels: np.ndarray, resamples: int, seed: int) -> list[Score]:
    """Values and intervals of all that an outcome measures; predictions are measured as top1 and mean_class."""
    scores = []
    if outcome.predictions is not None:
        correct = outcome.predictions == labels
        for metric in METRICS:
            groups = groups_of(metric, labels)
            interval = accuracy_interval(correct, groups, resamples, seed)
            scores.append(Score(metric, group_accuracy(correct, groups), interval, len(correct)))
    for found in outcome.measurements:
        interval = measurement_interval(found, resamples, seed)
        value, units = measurement_value(found), len(found.numerators)
        scores.append(Score(found.metric, value, interval, units, found.unit, found.higher_is_better))
    return scores


def save_evidence(
    path: Path, ids: np.ndarray, labels: np.ndarray, classes: Sequence[str], outcomes: Sequence[Outcome]
) -> None:
    """What every test unit contributed, per setting, with unit ids, true labels and class names: a compressed .npz."""
    arrays: dict[str, Any] = {"id": ids, "label": labels, "classes": np.array(classes, dtype=str)}
    for outcome in outcomes:
        name = setting_name(outcome.setting)
        if outcome.predictions is not None:
            arrays[f"prediction {name}"] = outcome.predictions
        for found in outcome.measurements:
            arrays[f"numerators {found.metric} {name}"] = found.numerators
            arrays[f"denominators {found.metric} {name}"] = found.denominators
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    publish_bytes(path, buffer.getvalue())


def has_evidence(path: Path) -> bool:
    """Whether that file is there, as it was written; a damaged one is named, and counts as none."""
    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as file:
            if file.testzip() is None:
                return True
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        pass
    logger.warning("%s: damaged, measured again", path)
    return False


def load_predictions(path: Path, setting: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """True labels and predictions, int64 [N] each, of one setting.

    Raises:
        KeyError: that setting has measurements only.
    """
    with np.load(path) as arrays:
        return arrays["label"], arrays[f"prediction {setting_name(setting)}"]


def compare_evidence(
    ours: tuple[Path, dict[str, Any]],
    theirs: tuple[Path, dict[str, Any]],
    metric: str,
    *,
    unit: str,
    higher_is_better: bool,
    resamples: int,
    seed: int,
) -> Comparison:
    """One metric of (file, setting) minus the same metric of another, unit by unit."""
    if metric in METRICS and _holds(ours[0], f"prediction {setting_name(ours[1])}"):
        labels, our_classes = load_predictions(*ours)
        _, their_classes = load_predictions(*theirs)
        groups = groups_of(metric, labels)
        return compare(our_classes == labels, their_classes == labels, groups, resamples, seed)
    pair = [_load_measurement(path, setting, metric, unit, higher_is_better) for path, setting in (ours, theirs)]
    return compare_measurements(pair[0], pair[1], resamples, seed)


def _holds(path: Path, name: str) -> bool:
    with np.load(path) as arrays:
        return name in arrays


def _load_measurement(
    path: Path, setting: dict[str, Any], metric: str, unit: str, higher_is_better: bool
) -> Measurement:
    name = f"{metric} {setting_name(setting)}"
    with np.load(path) as arrays:
        return Measurement(metric, arrays[f"numerators {name}"], arrays[f"denominators {name}"], higher_is_better, unit)
