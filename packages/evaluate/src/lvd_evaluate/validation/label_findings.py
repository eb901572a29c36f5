"""Checks of labelled images: what can be read, which labels are missing, which classes are thin or missing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from lvd_evaluate.config import DataConfig
from lvd_evaluate.errors import InputError
from lvd_evaluate.images import decode_rgb
from lvd_evaluate.tasks.tables import find_sources, open_table, own_folder, read_cell
from lvd_evaluate.validation.findings import FACT, SHOWN, UNUSABLE, WARNING, Finding, check_overlap, name_rows, try_rows


def check_labelled(data: Sequence[str], config: DataConfig) -> list[Finding]:
    """Everything there is to say about images with labels.

    Args:
        data: the values of --data.
        config: columns and limits.

    Raises:
        InputError: a split cannot be opened at all.
    """
    sources = find_sources(data)
    columns = {"image": config.image, "label": config.label}
    limits = {"train": config.limit_train, "test": config.limit_test}
    one_source = sources["train"] == sources["test"]
    findings: list[Finding] = []
    labels: dict[str, Counter[str]] = {}
    ids: dict[str, list[str | None]] = {}
    for split, source in sources.items():
        table = open_table(source, split, columns, limit=limits[split], must_name=one_source)
        labels[split], found = _check_labels(table, config.label, split)
        ids[split], broken = check_images(table, config.image, split, local=own_folder(source))
        findings += [*found, *broken]
    return [*findings, *_check_classes(labels), *check_overlap(ids)]


def check_images(table: Any, column: str, place: str, *, local: Path | None) -> tuple[list[str | None], list[Finding]]:
    """The sha256 of each image file, None where it cannot be read or decoded, and what there is to say about sizes."""

    def read(row: int) -> tuple[str, tuple[int, int]]:
        content = read_cell(table[row][column], f"{place} row {row}", local=local)
        try:
            return hashlib.sha256(content).hexdigest(), decode_rgb(content).size
        except InputError as error:
            raise InputError(f"{place} row {row}: the image {error}") from error

    results, findings = try_rows(read, len(table), place, f"images of {place}")
    sizes = [result[1] for result in results if result]
    if sizes:
        sides = [min(size) for size in sizes]
        text = f"{len(sizes):,} images; short sides {min(sides)} to {max(sides)} pixels, median {median(sides):g}"
        findings.append(Finding(FACT, place, text))
    return [result[0] if result else None for result in results], findings


def _check_labels(table: Any, column: str, split: str) -> tuple[Counter[str], list[Finding]]:
    """How often each label occurs, by name; what is wrong with the column."""
    names = getattr(table.features[column], "names", None)
    values = list(table[column])
    bare = [row for row, value in enumerate(values) if value is None or (names and value < 0)]
    findings = [Finding(UNUSABLE, split, f"no label in {name_rows(bare)}")] if bare else []
    kinds = {type(value) for value in values if value is not None}
    if not kinds <= {int, str} or len(kinds) > 1:
        text = f"column '{column}' holds {table.features[column]}, not one integer or text per image (set data.label)"
        return Counter(), [*findings, Finding(UNUSABLE, split, text)]
    skipped = set(bare)
    kept = [value for row, value in enumerate(values) if row not in skipped]
    counts = Counter(str(names[value]) if names else str(value) for value in kept)
    if len(counts) == 1:
        findings.append(Finding(WARNING, split, f"a single class, '{next(iter(counts))}': nothing to tell apart"))
    if counts:
        least, most = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
        text = f"{len(counts)} classes of {counts[most]:,} images each"
        if counts[least] < counts[most]:
            text = (
                f"{len(counts)} classes of {counts[least]:,} ('{least}') to {counts[most]:,} ('{most}') images, "
                f"median {median(counts.values()):g}"
            )
        findings.append(Finding(FACT, split, text))
    return counts, findings


def _check_classes(labels: dict[str, Counter[str]]) -> list[Finding]:
    """Classes that only one of the splits has."""
    findings = []
    for split, other, level, why in (
        ("test", "train", UNUSABLE, "no head can learn them"),
        ("train", "test", WARNING, "they are learned but never tested"),
    ):
        alone = sorted(labels[split].keys() - labels[other].keys()) if labels[other] else []
        if alone:
            some = ", ".join(f"'{name}'" for name in alone[:SHOWN]) + (", ..." if len(alone) > SHOWN else "")
            findings.append(Finding(level, split, f"classes that {other} does not have ({len(alone)}: {some}): {why}"))
    return findings
