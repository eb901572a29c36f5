"""The story of an evaluation: tasks, encoders, probes, intervals, comparisons, results.jsonl."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from lvd_evaluate import __version__, ranks
from lvd_evaluate.contracts import Encoder, Outcome
from lvd_evaluate.encoders import nearest_openclip, preprocessing
from lvd_evaluate.encoders.shelf import EncoderShelf
from lvd_evaluate.errors import InputError
from lvd_evaluate.features import CODE_VERSION
from lvd_evaluate.measure import Probed, headline_metric, run_probe, settings_of
from lvd_evaluate.opening import OpenTask, open_task
from lvd_evaluate.publish import hold_folder, publish_bytes
from lvd_evaluate.recipes import Assignment, require_own_config
from lvd_evaluate.scoring.results import (
    Row,
    asked_settings,
    load_rows,
    published_value,
    save_rows,
    still_true,
    versions,
)
from lvd_evaluate.scoring.scores import Score, compare_evidence, has_evidence, save_evidence, score_outcome

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """One task of one evaluation and the folder that its results go to."""

    task: OpenTask
    assignment: Assignment
    out: Path

    @property
    def results(self) -> Path:
        """The results file."""
        return self.out / "results.jsonl"

    @property
    def store(self) -> Path:
        """The feature store."""
        store = self.assignment.config.features.store
        return Path(store) if store else self.out / "features"

    @property
    def resampling(self) -> tuple[int, int]:
        """Resamples and seed of intervals."""
        return self.assignment.config.bootstrap, self.assignment.config.seed

    def evidence(self, run: str) -> Path:
        """Where what every test unit contributed to one run lies."""
        return self.out / "predictions" / f"{run}.npz"

    def folder(self, run: str) -> Path:
        """Where a probe keeps what it needs to go on after a kill, and its pictures."""
        return self.out / "probes" / run


def run_benchmark(
    ckpt: str, baselines: Sequence[str] | None, assignments: Sequence[Assignment], out: Path
) -> list[Row]:
    """Measure `ckpt` and its baselines on every task with every probe; finished rows are not computed again.

    Args:
        ckpt: SPEC of the model under test; it must open.
        baselines: SPECs to compare it with; one that cannot be had is a row with the reason. None: the OpenCLIP ViT
            nearest in size.
        assignments: tasks with their probes and settings.
        out: folder for results.jsonl, predictions/, pictures/, features/ and config.yaml.

    Returns:
        The rows of this invocation: task by task, the model under test first. Every process gets them, one writes.

    Raises:
        InputError: data, model or settings cannot be used, or another command writes into `out`.
    """
    # ---- what is measured: tasks, the model under test, its baselines ------------------------------------------------
    shelf = EncoderShelf(ckpt)
    size = shelf.take(assignments[0].config).num_parameters
    specs = list(dict.fromkeys([ckpt, *([nearest_openclip(size)] if baselines is None else baselines)]))
    benches = [Bench(open_task(assignment), assignment, out) for assignment in assignments]
    with hold_folder(out, hold=ranks.is_main()):
        if ranks.is_main():
            settings = {
                bench.assignment.name or bench.task.name: bench.assignment.config.to_dict() for bench in benches
            }
            written = settings if len(settings) > 1 else next(iter(settings.values()))
            require_own_config(out / "config.yaml")
            publish_bytes(out / "config.yaml", yaml.safe_dump(written, sort_keys=False).encode())

        # ---- model by model, so that one is in memory at a time; each finished probe is saved at once ----------------
        found: list[list[Row]] = [[] for _ in benches]
        for spec in specs:
            if spec != ckpt:
                shelf = EncoderShelf(spec)  # the model before it goes
            for bench, rows in zip(benches, found, strict=True):
                try:
                    rows += measure(bench, shelf.take(bench.assignment.config))
                except InputError as error:
                    if spec == ckpt:
                        raise
                    reason = str(error).removeprefix(f"{spec}: ")
                    logger.warning("%s is unavailable: %s", spec, reason)
                    rows += unavailable(bench, spec, reason)

        # ---- the model under test minus each baseline, unit by unit --------------------------------------------------
        compared = [
            replace(row, comparisons=compare_rows(bench, row, rows)) if row.spec == ckpt else row
            for bench, rows in zip(benches, found, strict=True)
            for row in rows
        ]
        save(out / "results.jsonl", [*still_true(earlier_rows(out), compared), *compared])
        return compared


def measure(bench: Bench, encoder: Encoder) -> list[Row]:
    """Rows of every probe on one encoder, from results.jsonl where they stand there already."""
    rows: list[Row] = []
    for probe in bench.assignment.probes:
        run = fingerprint_run(bench, encoder, probe)
        finished = ranks.share(finished_rows(bench, encoder, run))
        if finished:
            logger.info("%s, %s, %s: already measured", bench.task.name, encoder.name, probe)
            rows += finished
            continue
        start = time.perf_counter()
        probed = run_probe(probe, bench.task, encoder, bench.assignment.config, bench.store, bench.folder(run))
        timing = describe_timing(bench.task, probed, time.perf_counter() - start)
        fresh = []
        for outcome in probed.outcomes:
            scores = score_outcome(outcome, bench.task.labels, *bench.resampling)
            wanted = headline_metric(probe, bench.assignment.config)
            shown = wanted if any(score.metric == wanted for score in scores) else scores[0].metric
            for score in scores:
                row = build_row(bench, encoder, probe, run, outcome, score, timing)
                fresh.append(replace(row, headline=outcome.headline and score.metric == shown))
        if ranks.is_main():
            save_evidence(bench.evidence(run), bench.task.ids, bench.task.labels, bench.task.classes, probed.outcomes)
        save(bench.results, [*earlier_rows(bench.out), *fresh])
        rows += fresh
    return rows


def finished_rows(bench: Bench, encoder: Encoder, run: str) -> list[Row]:
    """Rows of that run if it was measured before, under the names that this invocation gives the model and the task."""
    if not has_evidence(bench.evidence(run)):
        return []
    named: dict[str, Any] = {"model": encoder.name, "spec": encoder.spec, "task": bench.task.name}
    earlier = [replace(row, **named) for row in earlier_rows(bench.out) if row.run == run]
    unique = {row.key: row for row in earlier}  # two SPECs of the same weights share their runs
    return [replace(row, published=published_beside(bench, row)) for row in unique.values()]


def build_row(
    bench: Bench, encoder: Encoder, probe: str, run: str, outcome: Outcome, score: Score, timing: dict[str, Any]
) -> Row:
    """One measured value with its interval and everything needed to read or repeat it."""
    finite = math.isfinite(score.value)
    row = Row(
        run=run,
        procedure=outcome.procedure,
        setting=outcome.setting,
        notes=outcome.notes,
        metric=score.metric,
        unit=score.unit,
        higher_is_better=score.higher_is_better,
        loader=encoder.loader,
        weights_fingerprint=encoder.fingerprint,
        num_parameters=encoder.num_parameters,
        preprocessing=outcome.preprocessing or preprocessing(encoder),
        feature=outcome.feature,
        value=score.value if finite else None,
        ci_low=score.interval.low if finite else None,
        ci_high=score.interval.high if finite else None,
        ci_method=score.interval.method,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **timing,
        **shared_fields(bench, encoder.name, encoder.spec, probe) | {"n_test": score.units},
    )
    return replace(row, published=published_beside(bench, row))


def published_beside(bench: Bench, row: Row) -> dict[str, Any] | None:
    """The paper's number for the task of a row; none if only the first images were read, of train as of test."""
    if bench.task.limited:
        return None
    task = row.setting.get("set", bench.task.name)
    return published_value(task, row.n_test, row.spec, row.procedure or "", row.metric)


def describe_timing(task: OpenTask, probed: Probed, seconds: float) -> dict[str, Any]:
    """Seconds of the whole probe, and those of the feature pass that it read (of this or an earlier command)."""
    timing = {"probe_seconds": round(seconds, 3)}
    if probed.feature_seconds:
        timing["feature_seconds"] = round(probed.feature_seconds, 3)
        timing["images_per_second"] = round((task.n_train + task.n_test) / probed.feature_seconds, 1)
    return timing


def unavailable(bench: Bench, spec: str, reason: str) -> list[Row]:
    """One row per probe that says why a baseline could not be measured; it is tried again next time."""
    return [
        Row(
            run=hashlib.sha256(f"{spec} {bench.task.fingerprint} {probe}".encode()).hexdigest()[:16],
            status="unavailable",
            reason=reason,
            metric=headline_metric(probe, bench.assignment.config),
            **shared_fields(bench, spec, spec, probe),
        )
        for probe in bench.assignment.probes
    ]


def shared_fields(bench: Bench, model: str, spec: str, probe: str) -> dict[str, Any]:
    """What measured and unavailable rows have in common."""
    task, config = bench.task, bench.assignment.config
    return {
        "model": model,
        "spec": spec,
        "probe": probe,
        "protocol": config.protocol,
        "task": task.name,
        "task_fingerprint": task.fingerprint,
        "n_train": task.n_train,
        "n_test": task.n_test,
        "n_classes": len(task.classes),
        "units": task.units,
        "limited": task.limited,
        "seed": config.seed,
        "versions": versions(),
    }


def compare_rows(bench: Bench, row: Row, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """`row` minus each other model's row of the same probe and metric, at the setting that each reports."""
    comparisons: list[dict[str, Any]] = []
    for other in rows:
        if other.spec == row.spec or other.probe != row.probe:
            continue
        named = {"baseline": other.model, "spec": other.spec}
        if other.status != "measured" or None in (row.value, other.value):
            comparisons.append({**named, "verdict": "unavailable", "reason": other.reason})
            continue
        if other.metric != row.metric or not comparable(row, other):
            continue
        difference = compare_evidence(
            (bench.evidence(row.run), row.setting),
            (bench.evidence(other.run), other.setting),
            row.metric,
            unit=row.unit,
            higher_is_better=row.higher_is_better,
            resamples=bench.resampling[0],
            seed=bench.resampling[1],
        )
        comparisons.append(
            {
                **named,
                "delta": difference.delta,
                "ci_low": difference.low,
                "ci_high": difference.high,
                "p": difference.p,
                "verdict": difference.verdict,
            }
        )
    return comparisons


def comparable(row: Row, other: Row) -> bool:
    """Whether two settings answer the same question: all that is asked for is equal, what was chosen may differ."""
    return asked_settings(row) == asked_settings(other)


def fingerprint_run(bench: Bench, encoder: Encoder, probe: str) -> str:
    """Hash of everything a probe's predictions depend on."""
    config = bench.assignment.config
    identity = {
        "version": __version__,
        "features": CODE_VERSION,
        "model": encoder.fingerprint,
        "loader": encoder.loader,
        "preprocessing": preprocessing(encoder),
        "precision": config.features.precision,
        "task": bench.task.fingerprint,
        "classes": bench.task.classes,
        "probe": probe,
        "settings": settings_of(probe, config),
        "headline": headline_metric(probe, config),
        "bootstrap": None if bench.task.kind in ("segmentation", "depth") else config.bootstrap,  # those train for long
        "protocol": config.protocol,
        "seed": config.seed,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def earlier_rows(out: Path) -> list[Row]:
    """Rows that results.jsonl holds now."""
    return load_rows(out / "results.jsonl") if (out / "results.jsonl").is_file() else []


def save(results: Path, rows: Sequence[Row]) -> None:
    """Replace results.jsonl; the first process writes, the others wait for it."""
    if ranks.is_main():
        save_rows(results, rows)
    ranks.wait()
