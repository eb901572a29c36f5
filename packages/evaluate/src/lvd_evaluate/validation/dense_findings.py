"""Checks of masks and depth maps: what can be read, which numbers they hold, whether units look right."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lvd_evaluate.config import DataConfig
from lvd_evaluate.images import decode_values
from lvd_evaluate.tasks.dense import MAX_CLASSES, TARGETS, Files, ReadDepth, Reader, ReadMask, open_files
from lvd_evaluate.tasks.tables import find_sources
from lvd_evaluate.validation.findings import FACT, SHOWN, UNUSABLE, WARNING, Finding, check_overlap, name_rows, try_rows

FAR, NEAR = 200.0, 0.05  # metres; a median beyond is no depth camera's and hardly a lidar's
PIXELS = 2_000  # depths kept per image for the quantiles


@dataclass(frozen=True)
class Target:
    """What one row's target holds."""

    image: str  # sha256 of the image file
    counts: np.ndarray  # masks: pixels of each stored number; depth: pixels without and with a reading
    depths: np.ndarray  # metres, a sample; none for masks


def check_dense(data: Sequence[str], config: DataConfig, kind: str) -> list[Finding]:
    """Everything there is to say about images with a target per pixel.

    Args:
        data: the values of --data.
        config: columns, void value, scale of depth, limits.
        kind: segmentation or depth.

    Raises:
        InputError: a split cannot be opened at all.
    """
    sources = find_sources(data)
    one_source = sources["train"] == sources["test"]
    findings: list[Finding] = []
    ids: dict[str, list[str | None]] = {}
    seen: dict[str, set[int]] = {}
    for split, source in sources.items():
        files = open_files(source, split, config, TARGETS[kind], must_name=one_source)
        rows, broken = try_rows(_reading(files, config, kind), len(files), split, f"targets of {split}")
        ids[split] = [row.image if row else None for row in rows]
        findings += broken
        read = {number: row for number, row in enumerate(rows) if row}
        if kind == "depth" and read:
            findings += _check_depths(read, split)
        elif read:
            counts = _add([row.counts for row in read.values()])
            findings += _check_masks(counts, split, config)
            seen[split] = {int(value) for value in np.flatnonzero(counts)} - {config.void}
    if len(seen) == 2 and seen["test"] - seen["train"]:
        strange = ", ".join(str(value) for value in sorted(seen["test"] - seen["train"])[:SHOWN])
        findings.append(Finding(WARNING, "test", f"classes that no mask of train has: {strange}"))
    return [*findings, *check_overlap(ids)]


def _reading(files: Files, config: DataConfig, kind: str) -> Callable[[int], Target]:
    """A function from a row to its Target, which raises InputError where the probes would."""
    mask = ReadMask(config.void, config.zero_label_is_void, len(config.classes) or MAX_CLASSES)
    reader = Reader(files, ReadDepth(config.depth_scale) if kind == "depth" else mask)

    def read(row: int) -> Target:
        _, values = reader(row)
        image, target, _ = files.content(row)
        identity = hashlib.sha256(image).hexdigest()
        if kind == "segmentation":
            stored = decode_values(target).ravel().astype(np.int64)
            return Target(identity, np.bincount(stored), np.empty(0))
        metres = values[values > 0]
        counts = np.array([values.size - metres.size, metres.size])
        return Target(identity, counts, metres[:: max(metres.size // PIXELS, 1)])

    return read


def _add(counts: Sequence[np.ndarray]) -> np.ndarray:
    total = np.zeros(max(len(part) for part in counts), dtype=np.int64)
    for part in counts:
        total[: len(part)] += part
    return total


def _check_masks(counts: np.ndarray, split: str, config: DataConfig) -> list[Finding]:
    pixels = counts.sum()
    values = [int(value) for value in np.flatnonzero(counts) if value != config.void]
    void = counts[config.void] / pixels if config.void < len(counts) else 0.0
    findings = [
        Finding(FACT, split, f"{len(values)} numbers from {values[0]} to {values[-1]}" if values else "void alone"),
        Finding(FACT, split, f"{100 * void:.1f} % of the pixels are {config.void} and do not count (data.void)"),
    ]
    if not values or (values == [0] and config.zero_label_is_void):
        findings.append(Finding(UNUSABLE, split, "no pixel counts; look at data.void and data.zero_label_is_void"))
    zero = counts[0] / pixels
    if zero and not config.zero_label_is_void:
        text = (
            f"0 is a class of {100 * zero:.1f} % of the pixels; if it means 'unlabelled', set "
            "data.zero_label_is_void=true"
        )
        findings.append(Finding(FACT, split, text))
    if zero and config.zero_label_is_void:
        findings.append(Finding(FACT, split, f"{100 * zero:.1f} % of the pixels are 0 and do not count"))
    if values and values[-1] - values[0] + 1 > 4 * len(values) and len(values) > 1:
        text = f"only {len(values)} of {values[-1] - values[0] + 1} numbers occur: are these ids that want renumbering?"
        findings.append(Finding(WARNING, split, text))
    if 255 in values:
        findings.append(Finding(WARNING, split, f"255 is read as a class: data.void is {config.void}"))
    return findings


def _check_depths(rows: dict[int, Target], split: str) -> list[Finding]:
    depths = np.concatenate([row.depths for row in rows.values()])
    blind = sum(int(row.counts[0]) for row in rows.values()) / sum(int(row.counts.sum()) for row in rows.values())
    findings = [Finding(FACT, split, f"{100 * blind:.1f} % of the pixels have no reading and do not count")]
    empty = [number for number, row in rows.items() if not row.counts[1]]
    if empty:
        level = UNUSABLE if len(empty) == len(rows) else WARNING
        findings.append(Finding(level, split, f"no reading at all in {name_rows(empty)}"))
    if not len(depths):
        return findings
    low, middle, high = np.quantile(depths, [0.001, 0.5, 0.999])
    findings.append(
        Finding(FACT, split, f"{low:.3g} to {high:.3g} metres, median {middle:.3g} (0.1 and 99.9 percentiles)")
    )
    if middle > FAR:
        text = f"a median of {middle:.4g} metres: numbers in millimetres want data.depth_scale=0.001"
        findings.append(Finding(WARNING, split, text))
    elif middle < NEAR:
        text = f"a median of {middle:.4g} metres: is data.depth_scale too small?"
        findings.append(Finding(WARNING, split, text))
    return findings
