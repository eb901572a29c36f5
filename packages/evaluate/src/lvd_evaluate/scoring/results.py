"""Results v1: `results.jsonl`, one object per model x task x probe x metric, and the predictions behind it."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

from lvd_evaluate import __version__
from lvd_evaluate.errors import InputError
from lvd_evaluate.publish import publish_bytes
from lvd_evaluate.scoring.checked_rows import read_record

FORMAT = "lvd-results-v1"
CHOSEN_SETTINGS = ("learning_rate", "layers", "avgpool", "C", "weight_decay")  # what probes choose for each model


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured value, or the reason why there is none. Values, intervals and differences are shares of 1."""

    run: str  # of model, task, probe, settings, protocol and seed; its rows share their predictions
    status: str = "measured"  # or unavailable
    reason: str | None = None  # why it is unavailable
    task: str
    task_fingerprint: str
    protocol: str  # clean or dinov2
    procedure: str | None = None  # exact procedure; published numbers are shown only beside the same one
    probe: str
    setting: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    metric: str
    unit: str = ""  # of the value: "" is a share of 1, shown in percent; else "m" or "1" (a plain number)
    higher_is_better: bool = True
    units: str = "images"  # what n_test counts and intervals resample: images, clips, queries
    headline: bool = True  # whether tables show this setting
    model: str
    spec: str
    loader: str | None = None
    weights_fingerprint: str | None = None
    num_parameters: int | None = None
    preprocessing: str | None = None
    feature: str | None = None
    n_train: int
    n_test: int
    n_classes: int
    limited: bool = False  # a limit was set: first n images only
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ci_method: str | None = None
    comparisons: list[dict[str, Any]] = field(default_factory=list)  # baseline, delta, ci_low, ci_high, p, verdict
    published: dict[str, Any] | None = None  # value, source
    feature_seconds: float | None = None
    images_per_second: float | None = None  # of the feature pass
    probe_seconds: float | None = None
    seed: int
    versions: dict[str, str] = field(default_factory=dict)
    date: str | None = None
    format: str = FORMAT

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes a row the same row again."""
        return (self.spec, self.run, self.metric, json.dumps(self.setting, sort_keys=True))


def load_rows(path: Path) -> list[Row]:
    """Rows of a results.jsonl, in order.

    Raises:
        InputError: a line is no Results v1 object.
    """
    rows, hints = [], get_type_hints(Row)
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            rows.append(Row(**read_record(line.decode(), dataclasses.fields(Row), hints)))
        except ValueError as error:
            raise InputError(f"{path} line {number}: no {FORMAT} row ({error}); take the line out") from error
    return rows


def save_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replace the file in one step; of rows with the same key the last one stays, in its own place."""
    unique: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        unique.pop(row.key, None)  # else the new row would take the old one's place, and reports show the latest
        unique[row.key] = row
    lines = [json.dumps(dataclasses.asdict(row), ensure_ascii=False) + "\n" for row in unique.values()]
    publish_bytes(path, "".join(lines).encode(errors="backslashreplace"))  # a JSON escape of what is no Unicode


def still_true(earlier: Sequence[Row], fresh: Sequence[Row]) -> list[Row]:
    """Earlier rows, less those that call a model unavailable which has been measured now."""
    measured = {(row.spec, row.task_fingerprint, row.probe) for row in fresh if row.status == "measured"}
    return [
        row
        for row in earlier
        if row.status == "measured" or (row.spec, row.task_fingerprint, row.probe) not in measured
    ]


def asked_settings(row: Row) -> dict[str, Any]:
    """The settings that the user or the probe fixed, without those chosen for each model."""
    return {key: value for key, value in row.setting.items() if key not in CHOSEN_SETTINGS}


def setting_name(setting: dict[str, Any]) -> str:
    """`{"k": 20, "temperature": 0.07}` -> `k=20 temperature=0.07`."""
    return " ".join(f"{key}={value}" for key, value in setting.items())


def published_value(task: str, n_test: int, spec: str, procedure: str, metric: str) -> dict[str, Any] | None:
    """The paper's number for this very task, released model and procedure, or None: near misses are not shown."""
    for entry in _reference_results():
        same_task = task in entry["tasks"] and n_test == entry["n_test"]
        same_model = spec in entry["specs"]
        if same_task and same_model and procedure == entry["procedure"] and metric == entry["metric"]:
            return {"value": entry["value"], "source": entry["source"]}
    return None


@cache
def _reference_results() -> list[dict[str, Any]]:
    """Every number of reference_results.json with its source, model, task and procedure; shares of 1 where percent."""
    data = json.loads(resources.files("lvd_evaluate").joinpath("reference_results.json").read_text())
    entries = []
    for table in data["tables"]:
        for model, numbers in table["rows"].items():
            for column, printed in zip(table["columns"], numbers, strict=True):
                task = data["tasks"][column["task"]]
                value = printed if task.get("unit") else printed / 100
                about = {"source": table["source"], "model": model, "specs": data["models"][model], "value": value}
                entries.append(task | column | about)
    return entries


def versions() -> dict[str, str]:
    """What the numbers were computed with."""
    return {
        "lvd-evaluate": __version__,
        "torch": version("torch"),
        "transformers": version("transformers"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
    }
