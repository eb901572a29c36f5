"""One probe on one encoder and one task: how it gets its features, and what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvd_evaluate.config import EvaluateConfig
from lvd_evaluate.contracts import Encoder, Features, Outcome, Split
from lvd_evaluate.features import extract_features
from lvd_evaluate.opening import OpenTask

HEADLINES = {"segmentation": "miou", "depth": "rmse", "retrieval": "map"}  # others: data.metric
SECTIONS = {  # of the settings that a probe's numbers depend on; others: the section of its name
    "video": ("video", "linear"),
    "robustness": ("robustness", "linear", "knn"),
    "few_shot_knn": ("few_shot", "knn"),
    "few_shot_logistic": ("few_shot", "logistic"),
}
FREE = ("workers", "pictures", "save_every")  # settings that change no number


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
    settings = config.to_dict()
    return {
        section: {key: value for key, value in settings[section].items() if key not in FREE}
        for section in SECTIONS.get(probe, (probe,))
    }


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
    run = {
        "segmentation": _segment,
        "depth": _measure_depth,
        "retrieval": _retrieve,
        "video": _classify_clips,
        "robustness": _test_robustness,
    }.get(probe)
    if run is None:
        return _classify(probe, task, encoder, config, store, folder)
    return run(task, encoder, config, store, folder)


def _extract(encoder: Encoder, splits: Sequence[Split], config: EvaluateConfig, store: Path) -> list[Features]:
    opened: dict[str, Features] = {}
    for split in splits:
        if split.fingerprint not in opened:  # leave-one-out has one split twice
            opened[split.fingerprint] = extract_features(encoder, split, store, config.features)
    return [opened[split.fingerprint] for split in splits]


def _seconds(features: Sequence[Features]) -> float:
    return sum(part.seconds for part in features)


def _classify(
    probe: str, opened: OpenTask, encoder: Encoder, config: EvaluateConfig, store: Path, folder: Path
) -> Probed:
    from lvd_evaluate.probes import knn, linear, logistic

    task, _ = opened.content
    train, test = _extract(encoder, [task.train, task.test], config, store)
    given = (train, test, len(task.classes), encoder)
    protocol, seed = config.protocol, config.seed
    if probe == "knn":
        outcomes = knn.evaluate_knn(*given, config.knn)
    elif probe == "logistic":
        outcomes = logistic.evaluate_logistic(*given, config.logistic, protocol, seed)
    elif probe == "few_shot_knn":
        outcomes = knn.evaluate_few_shot_knn(*given, config.knn, config.few_shot, seed)
    elif probe == "few_shot_logistic":
        outcomes = logistic.evaluate_few_shot_logistic(*given, config.logistic, config.few_shot, seed)
    else:
        assert probe == "linear", probe
        views = {"train_split": task.train, "folder": folder, "passes": config.features}
        outcomes = linear.evaluate_linear(*given, config.linear, protocol, seed, **views)
    return Probed(outcomes, _seconds([train] if train is test else [train, test]))


def _test_robustness(opened: OpenTask, encoder: Encoder, config: EvaluateConfig, store: Path, folder: Path) -> Probed:
    from lvd_evaluate.probes.robustness import evaluate_robustness
    from lvd_evaluate.tasks.robustness import encoder_for

    task, sets = opened.content
    train, test = _extract(encoder, [task.train, task.test], config, store)
    seen = [
        (found, extract_features(encoder_for(found, encoder), found.images, store, config.features)) for found in sets
    ]
    outcomes = evaluate_robustness(
        train,
        test,
        seen,
        len(task.classes),
        encoder,
        config.robustness,
        config.linear,
        config.knn,
        config.protocol,
        config.seed,
        train_split=task.train,
        folder=folder,
        passes=config.features,
    )
    return Probed(outcomes)


def _segment(opened: OpenTask, encoder: Encoder, config: EvaluateConfig, store: Path, folder: Path) -> Probed:
    from lvd_evaluate.probes.segmentation import evaluate_segmentation

    return Probed(
        evaluate_segmentation(opened.content, encoder, config.segmentation, config.protocol, config.seed, folder=folder)
    )


def _measure_depth(opened: OpenTask, encoder: Encoder, config: EvaluateConfig, store: Path, folder: Path) -> Probed:
    from lvd_evaluate.probes.depth import evaluate_depth

    return Probed(evaluate_depth(opened.content, encoder, config.depth, config.protocol, config.seed, folder=folder))


def _retrieve(opened: OpenTask, encoder: Encoder, config: EvaluateConfig, store: Path, folder: Path) -> Probed:
    from lvd_evaluate.probes.retrieval import evaluate_retrieval

    task = opened.content
    queries, database = _extract(encoder, [task.queries, task.database], config, store)
    outcomes = evaluate_retrieval(queries, database, task, encoder, config.retrieval)
    return Probed(outcomes, _seconds([queries, database]))


def _classify_clips(opened: OpenTask, encoder: Encoder, config: EvaluateConfig, store: Path, folder: Path) -> Probed:
    from lvd_evaluate.probes.video import evaluate_video
    from lvd_evaluate.tasks.video import average_frames

    task, how = opened.content, config.video.combine
    frames = _extract(encoder, [task.train.frames, task.test.frames], config, store)
    train, test = (average_frames(split, task.frames_per_clip, how) for split in frames)
    outcomes = evaluate_video(
        train, test, len(task.classes), encoder, config.video, config.linear, config.protocol, config.seed
    )
    return Probed(outcomes, _seconds(frames))
