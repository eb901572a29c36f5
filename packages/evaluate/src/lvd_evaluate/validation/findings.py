"""What a check of data finds: facts, warnings and what makes data unusable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from lvd_evaluate.errors import InputError
from lvd_evaluate.progress import track

UNUSABLE, WARNING, FACT = "unusable", "warning", "fact"
SHOWN = 5  # rows named per finding
Result = TypeVar("Result")


@dataclass(frozen=True)
class Finding:
    """One thing that a check of the data says."""

    level: str  # UNUSABLE: the probes would stop; WARNING: the numbers may mislead; FACT
    place: str  # train, test, queries, database, ...
    text: str


def try_rows(
    read: Callable[[int], Result], count: int, place: str, title: str
) -> tuple[list[Result | None], list[Finding]]:
    """What `read` makes of rows 0..count, None where it raises InputError, and one finding that names such rows."""
    broken: dict[int, str] = {}

    def attempt(row: int) -> Result | None:
        try:
            return read(row)
        except InputError as error:
            broken[row] = str(error)
            return None

    results: list[Result | None] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, track(title, count, "rows") as advance:
        for result in pool.map(attempt, range(count)):
            results.append(result)
            advance(1)
    if not broken:
        return results, []
    examples = [f"  {broken[row]}" for row in sorted(broken)[:SHOWN]]
    more = [f"  and {len(broken) - SHOWN:,} more"] if len(broken) > SHOWN else []
    return results, [Finding(UNUSABLE, place, "\n".join([f"{len(broken):,} of {count:,} rows:", *examples, *more]))]


def name_rows(rows: Iterable[int]) -> str:
    """`rows 3, 8 and 17`, the first few of many."""
    rows = list(rows)
    shown = ", ".join(str(row) for row in rows[:SHOWN])
    return f"row{'s' if len(rows) > 1 else ''} {shown}" + (
        f" and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    )


def check_overlap(ids: dict[str, list[str | None]]) -> list[Finding]:
    """Image files that are in train and in test, byte for byte, and twins inside train."""
    train = {value for value in ids["train"] if value}
    shared = [row for row, value in enumerate(ids["test"]) if value in train]
    findings = []
    if shared:
        every = len(shared) == len(ids["test"]) and train == set(ids["test"])
        text = f"{len(shared):,} of {len(ids['test']):,} images are in train, too ({name_rows(shared)})"
        findings.append(Finding(UNUSABLE if every else WARNING, "test", text))
    for split, values in ids.items():
        twins = sum(value is not None for value in values) - len({value for value in values if value})
        if twins:
            findings.append(Finding(WARNING, split, f"images that repeat another one byte for byte: {twins:,}"))
    return findings


def tell(findings: Sequence[Finding]) -> str:
    """All findings as text, the worst first, and a line that sums them up."""
    order = [UNUSABLE, WARNING, FACT]
    lines = [
        f"{found.level}: {found.place}: {found.text}" for found in sorted(findings, key=lambda f: order.index(f.level))
    ]
    bad, odd = (sum(found.level == level for found in findings) for level in (UNUSABLE, WARNING))
    verdict = "cannot be used" if bad else "can be used"
    return "\n".join([*lines, f"{verdict}: {bad} unusable, {odd} to look at"])
