"""`evaluate validate`: reads every row of a data set once and says what is there, what is odd and what is unusable."""

from __future__ import annotations

from collections.abc import Sequence

from lvd_evaluate.config import DataConfig, VideoConfig
from lvd_evaluate.contracts import Split
from lvd_evaluate.errors import InputError
from lvd_evaluate.images import decode_rgb
from lvd_evaluate.tasks.retrieval import load_retrieval_task
from lvd_evaluate.tasks.video import load_video_task
from lvd_evaluate.validation.dense_findings import check_dense
from lvd_evaluate.validation.findings import FACT, UNUSABLE, WARNING, Finding, name_rows, tell, try_rows
from lvd_evaluate.validation.label_findings import check_labelled

KINDS = ("classification", "segmentation", "depth", "retrieval", "video")

__all__ = ["KINDS", "is_usable", "tell", "validate_data"]


def validate_data(data: Sequence[str], config: DataConfig, kind: str) -> list[Finding]:
    """Check the values of --data as the probes of that kind would read them, and go on where they would stop.

    Args:
        data: the values of --data.
        config: columns and what else tells how to read them.
        kind: of KINDS.

    Raises:
        InputError: no such kind.
    """
    if kind not in KINDS:
        raise InputError(f"--kind {kind}: choose one of {', '.join(KINDS)}")
    try:
        if kind == "classification":
            return check_labelled(data, config)
        if kind == "retrieval":
            return _check_retrieval(data, config)
        if kind == "video":
            return _check_video(data, config)
        return check_dense(data, config, kind)
    except InputError as error:
        return [Finding(UNUSABLE, "data", str(error))]


def is_usable(findings: Sequence[Finding]) -> bool:
    """Whether no finding makes the data unusable."""
    return all(found.level != UNUSABLE for found in findings)


def _check_retrieval(data: Sequence[str], config: DataConfig) -> list[Finding]:
    task = load_retrieval_task(data, config)
    found = [task.judge(query) for query in range(len(task.queries))]
    right = [len(judgement.easy) + len(judgement.hard) for judgement in found]
    lost = [query for query, count in enumerate(right) if not count]
    how = "the same label is right" if task.by_label else "lists say what is right"
    text = f"{how}; {min(right)} to {max(right)} right images per query"
    findings = [Finding(FACT, "queries", text), *_check_split(task.queries)]
    if lost:
        findings.append(Finding(WARNING, "queries", f"nothing to find for {len(lost):,} of them ({name_rows(lost)})"))
    return findings if task.leave_one_out else [*findings, *_check_split(task.database)]


def _check_video(data: Sequence[str], config: DataConfig) -> list[Finding]:
    task = load_video_task(data, config, VideoConfig().frames)
    findings: list[Finding] = []
    for clips in (task.train, task.test):
        findings.append(Finding(FACT, clips.frames.name, f"{len(clips):,} clips, {len(task.classes)} classes"))
        findings += _check_split(clips.frames)
    return findings


def _check_split(split: Split) -> list[Finding]:
    """Images of a split that cannot be read or decoded."""

    def read(row: int) -> tuple[int, int]:
        try:
            return decode_rgb(split.read(row, row + 1)[0]).size
        except InputError as error:
            raise InputError(f"{split.name} image {row}: {error}") from error

    return try_rows(read, len(split), split.name, f"images of {split.name}")[1]
