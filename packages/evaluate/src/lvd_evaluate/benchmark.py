"""The story of an evaluation: task, encoders, one clean pass each, probes, intervals, comparisons, results.jsonl."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from lvd_evaluate import __version__
from lvd_evaluate.config import EvaluateConfig
from lvd_evaluate.contracts import Encoder, Features, Outcome, Task
from lvd_evaluate.encoders import find_device, load_encoder, preprocessing
from lvd_evaluate.errors import InputError
from lvd_evaluate.features import CODE_VERSION, extract_features
from lvd_evaluate.metrics import METRICS, group_accuracy, groups_of
from lvd_evaluate.probes.knn import evaluate_knn
from lvd_evaluate.probes.linear import evaluate_linear
from lvd_evaluate.publish import hold_folder, publish_bytes
from lvd_evaluate.results import (
    Row,
    load_predictions,
    load_rows,
    published_value,
    save_predictions,
    save_rows,
    setting_name,
    still_true,
    versions,
)
from lvd_evaluate.statistics import accuracy_interval, compare
from lvd_evaluate.tasks import load_task

PROBES = ("knn", "linear")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """What every model of one invocation shares."""

    task: Task
    probes: Sequence[str]
    config: EvaluateConfig
    device: torch.device
    out: Path

    @property
    def results(self) -> Path:
        """The results file."""
        return self.out / "results.jsonl"

    @property
    def store(self) -> Path:
        """The feature store."""
        return Path(self.config.features.store) if self.config.features.store else self.out / "features"

    def predictions(self, run: str) -> Path:
        """Where the predictions of one run lie."""
        return self.out / "predictions" / f"{run}.npz"


def run_benchmark(
    ckpt: str, baselines: Sequence[str], data: Sequence[str], probes: Sequence[str], out: Path, config: EvaluateConfig
) -> list[Row]:
    """Measure `ckpt` and its baselines on one task; finished rows are not computed again.

    Args:
        ckpt: SPEC of the model under test; it must open.
        baselines: SPECs to compare it with; one that cannot be had is a row with the reason.
        data: values of --data.
        probes: of PROBES.
        out: folder for results.jsonl, predictions/, features/ and config.yaml.
        config: all settings.

    Returns:
        The rows of this invocation: the model under test first.

    Raises:
        InputError: data, model or settings cannot be used, or another command writes into `out`.
    """
    # ---- what is measured: one task, the model under test, its baselines -------------------------------------------
    unknown = sorted(set(probes) - set(PROBES))
    if unknown or not probes:
        raise InputError(f"--probes {','.join(probes)}: choose among {', '.join(PROBES)}")
    specs = list(dict.fromkeys([ckpt, *baselines]))
    device = find_device(config.features.device)
    encoder = load_encoder(ckpt, image_size=config.data.image_size, seed=config.seed, device=device)
    bench = Bench(load_task(data, config.data), list(dict.fromkeys(probes)), config, device, out)
    with hold_folder(out):
        publish_bytes(out / "config.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False).encode())

        # ---- one clean pass per model, every probe on it; each finished probe is saved at once -----------------------
        rows = measure(bench, encoder)
        for spec in specs[1:]:
            del encoder  # one model in memory at a time
            try:
                encoder = load_encoder(spec, image_size=config.data.image_size, seed=config.seed, device=device)
                rows += measure(bench, encoder)
            except InputError as error:
                reason = str(error).removeprefix(f"{spec}: ")
                logger.warning("%s is unavailable: %s", spec, reason)
                encoder = None  # type: ignore[assignment]
                rows += unavailable(bench, spec, reason)

        # ---- the model under test minus each baseline, image by image ------------------------------------------------
        rows = [replace(row, comparisons=compare_rows(bench, row, rows)) if row.spec == ckpt else row for row in rows]
        save_rows(bench.results, [*still_true(earlier_rows(bench), rows), *rows])
        return rows


def measure(bench: Bench, encoder: Encoder) -> list[Row]:
    """Rows of every probe on one encoder, from results.jsonl where they stand there already."""
    rows: list[Row] = []
    features: tuple[Features, Features] | None = None
    for probe in bench.probes:
        run = fingerprint_run(bench, encoder, probe)
        finished = [
            replace(row, model=encoder.name, spec=encoder.spec) for row in earlier_rows(bench) if row.run == run
        ]
        if finished and bench.predictions(run).is_file():
            logger.info("%s, %s: already measured", encoder.name, probe)
            rows += finished
            continue
        if features is None:
            train, test = (
                extract_features(encoder, split, bench.store, bench.config.features)
                for split in (bench.task.train, bench.task.test)
            )
            features = (train, test)
        start = time.perf_counter()
        outcomes = run_probe(bench, encoder, probe, *features)
        seconds = time.perf_counter() - start
        named = {setting_name(outcome.setting): outcome.predictions for outcome in outcomes}
        save_predictions(bench.predictions(run), bench.task.test.ids, bench.task.test.labels, named)
        fresh = [
            build_row(bench, encoder, probe, run, outcome, metric, features, seconds)
            for outcome in outcomes
            for metric in METRICS
        ]
        save_rows(bench.results, [*earlier_rows(bench), *fresh])
        rows += fresh
    return rows


def run_probe(bench: Bench, encoder: Encoder, probe: str, train: Features, test: Features) -> list[Outcome]:
    """Predictions of one probe."""
    classes, config = len(bench.task.classes), bench.config
    if probe == "knn":
        return evaluate_knn(train, test, classes, encoder, config.knn)
    return evaluate_linear(train, test, classes, encoder, config.linear, config.protocol, config.seed)


def build_row(
    bench: Bench,
    encoder: Encoder,
    probe: str,
    run: str,
    outcome: Outcome,
    metric: str,
    features: tuple[Features, Features],
    probe_seconds: float,
) -> Row:
    """One measured value with its interval and everything needed to read or repeat it."""
    task, labels = bench.task, bench.task.test.labels
    correct, groups = outcome.predictions == labels, groups_of(metric, labels)
    interval = accuracy_interval(correct, groups, bench.config.bootstrap, bench.config.seed)
    seconds = sum(part.seconds for part in features)
    return Row(
        run=run,
        procedure=outcome.procedure,
        setting=outcome.setting,
        notes=outcome.notes,
        metric=metric,
        headline=outcome.headline,
        loader=encoder.loader,
        weights_fingerprint=encoder.fingerprint,
        num_parameters=encoder.num_parameters,
        preprocessing=preprocessing(encoder),
        feature=outcome.feature,
        value=group_accuracy(correct, groups),
        ci_low=interval.low,
        ci_high=interval.high,
        ci_method=interval.method,
        published=published_value(task.name, len(task.test), encoder.spec, outcome.procedure, metric),
        feature_seconds=round(seconds, 3),
        images_per_second=round((len(task.train) + len(task.test)) / seconds, 1),
        probe_seconds=round(probe_seconds, 3),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **shared_fields(bench, encoder.name, encoder.spec, probe),
    )


def unavailable(bench: Bench, spec: str, reason: str) -> list[Row]:
    """One row per probe that says why a baseline could not be measured; it is tried again next time."""
    return [
        Row(
            run=hashlib.sha256(f"{spec} {bench.task.fingerprint} {probe}".encode()).hexdigest()[:16],
            status="unavailable",
            reason=reason,
            metric="top1",
            **shared_fields(bench, spec, spec, probe),
        )
        for probe in bench.probes
    ]


def shared_fields(bench: Bench, model: str, spec: str, probe: str) -> dict[str, Any]:
    """What measured and unavailable rows have in common."""
    task = bench.task
    return {
        "model": model,
        "spec": spec,
        "probe": probe,
        "protocol": bench.config.protocol,
        "task": task.name,
        "task_fingerprint": task.fingerprint,
        "n_train": len(task.train),
        "n_test": len(task.test),
        "n_classes": len(task.classes),
        "limited": task.train.limited or task.test.limited,
        "seed": bench.config.seed,
        "versions": versions(),
    }


def compare_rows(bench: Bench, row: Row, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """`row` minus each other model's row of the same probe and metric, at the setting that each reports."""
    comparisons: list[dict[str, Any]] = []
    for other in rows:
        if other.spec == row.spec or other.probe != row.probe:
            continue
        if other.status != "measured":
            comparisons.append(
                {"baseline": other.model, "spec": other.spec, "verdict": "unavailable", "reason": other.reason}
            )
            continue
        same_setting = other.setting == row.setting if row.probe == "knn" else True
        if other.metric != row.metric or not same_setting:
            continue
        labels, ours = load_predictions(bench.predictions(row.run), row.setting)
        _, theirs = load_predictions(bench.predictions(other.run), other.setting)
        groups = groups_of(row.metric, labels)
        found = compare(ours == labels, theirs == labels, groups, bench.config.bootstrap, bench.config.seed)
        comparisons.append(
            {
                "baseline": other.model,
                "spec": other.spec,
                "delta": found.delta,
                "ci_low": found.low,
                "ci_high": found.high,
                "p": found.p,
                "verdict": found.verdict,
            }
        )
    return comparisons


def fingerprint_run(bench: Bench, encoder: Encoder, probe: str) -> str:
    """Hash of everything a probe's predictions depend on."""
    config = bench.config.to_dict()
    identity = {
        "version": __version__,
        "features": CODE_VERSION,
        "model": encoder.fingerprint,
        "loader": encoder.loader,
        "preprocessing": preprocessing(encoder),
        "precision": config["features"]["precision"],
        "task": bench.task.fingerprint,
        "classes": bench.task.classes,
        "probe": probe,
        "settings": config[probe],
        "protocol": config["protocol"],
        "seed": config["seed"],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def earlier_rows(bench: Bench) -> list[Row]:
    """Rows that results.jsonl holds now."""
    return load_rows(bench.results) if bench.results.is_file() else []
