"""From rows to tables of text: a line per model, a column per headline, values, intervals, differences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lvd_evaluate.errors import printable
from lvd_evaluate.scoring.results import Row, asked_settings

PROBES = {  # in the order of columns; what each is called and the metric shown when its rows do not single one out
    "knn": ("kNN", "top1"),
    "linear": ("linear", "top1"),
    "logistic": ("logistic", "top1"),
    "few_shot_knn": ("few-shot kNN", "top1"),
    "few_shot_logistic": ("few-shot logistic", "top1"),
    "segmentation": ("segmentation", "miou"),
    "depth": ("depth", "rmse"),
    "retrieval": ("retrieval", "map"),
    "video": ("video", "top1"),
    "robustness": ("robustness", "top1"),
}
METRICS = {
    "top1": "top-1",
    "mean_class": "class mean",
    "miou": "mIoU",
    "rmse": "RMSE",
    "map": "mAP",
    "mce": "mCE",
    "corruption_error": "corruption error",
}


@dataclass(frozen=True)
class Column:
    """One headline of one probe."""

    probe: str
    metric: str
    asked: str  # JSON of the settings that the user or the probe fixed
    title: str
    label: str  # the title without its metric
    unit: str = ""
    higher_is_better: bool = True


@dataclass
class Table:
    """One model under test and its baselines on one task: lines[spec][column] is the row shown there."""

    task: str
    facts: str
    protocol: str
    columns: list[Column]
    ours: str  # spec of the model under test
    lines: dict[str, dict[Column, Row]] = field(default_factory=dict)

    @property
    def legend(self) -> str:
        """What the columns of differences mean."""
        return f"; difference: {self.name(self.ours)} minus the model of that line" if len(self.lines) > 1 else ""

    def name(self, spec: str) -> str:
        """What a model is called."""
        return next(iter(self.lines[spec].values())).model


def build_tables(rows: Sequence[Row]) -> list[Table]:
    """One table per task, protocol and model that was compared with others; models never compared stand alone."""
    tables: list[Table] = []
    for group in dict.fromkeys((row.task_fingerprint, row.protocol, row.seed) for row in rows):
        members = [row for row in rows if (row.task_fingerprint, row.protocol, row.seed) == group and row.headline]
        shown = _shown(_latest(members))
        compared = {
            spec: list(dict.fromkeys(entry["spec"] for row in shown if row.spec == spec for entry in row.comparisons))
            for spec in dict.fromkeys(row.spec for row in shown)
        }
        teams = [
            [spec, *(other for other in others if other in compared)] for spec, others in compared.items() if others
        ]
        seen = {spec for team in teams for spec in team}
        for team in [*teams, *([spec] for spec in compared if spec not in seen)]:
            tables.append(_table([row for spec in team for row in shown if row.spec == spec], team))
    return tables


def probe_title(probe: str, metric: str) -> str:
    """`kNN top-1`."""
    return f"{PROBES.get(probe, (probe,))[0]} {METRICS.get(metric, metric)}"


def _latest(rows: Sequence[Row]) -> list[Row]:
    """Of each model and probe the rows of the run measured last: the latest settings win."""
    runs = {(row.spec, row.probe): row.run for row in rows}
    return [row for row in rows if runs[row.spec, row.probe] == row.run]


def _shown(rows: Sequence[Row]) -> list[Row]:
    """Of each probe the rows of its headline metric: the one above if there is one, else the first of each setting."""
    kept = []
    for row in rows:
        family = [other for other in rows if (other.probe, other.setting) == (row.probe, row.setting)]
        metrics = [other.metric for other in family if other.status == "measured"] or [row.metric]
        usual = PROBES.get(row.probe, ("", ""))[1]
        if row.status != "measured" or row.metric == (usual if usual in metrics else metrics[0]):
            kept.append(row)
    return kept


def _table(rows: Sequence[Row], specs: Sequence[str]) -> Table:
    columns = _columns(rows)
    lines: dict[str, dict[Column, Row]] = {spec: {} for spec in specs}
    for row in rows:
        for column in columns:
            gone = row.status != "measured" and row.probe == column.probe
            if gone or _place(row) == (column.probe, column.metric, column.asked):
                lines[row.spec][column] = row
    first = next((row for row in rows if row.status == "measured"), rows[0])
    return Table(first.task, _facts(rows), first.protocol, columns, specs[0], lines)


def _place(row: Row) -> tuple[str, str, str]:
    return row.probe, row.metric, json.dumps(asked_settings(row), sort_keys=True)


def _columns(rows: Sequence[Row]) -> list[Column]:
    """Columns in the order of probes; where a probe has several, their titles say what differs."""
    found = {_place(row): row for row in rows if row.status == "measured"}
    probes_measured = {row.probe for row in found.values()}
    found |= {_place(row): row for row in rows if row.probe not in probes_measured}
    counts = {row.n_test for row in found.values()}
    order = list(PROBES)
    columns = []
    for place in sorted(found, key=lambda place: order.index(place[0]) if place[0] in order else len(order)):
        row = found[place]
        siblings = [asked_settings(other) for key, other in found.items() if key[0] == row.probe]
        probe, unlike = PROBES.get(row.probe, (row.probe,))[0], _what_differs(asked_settings(row), siblings)
        parts = [probe_title(row.probe, row.metric), *unlike]
        label = ", ".join([probe, *unlike])
        parts += [f"n = {row.n_test:,}"] if len(counts) > 1 else []
        parts += [row.unit] if row.unit not in ("", "1") else []
        parts += [] if row.higher_is_better else ["lower is better"]
        columns.append(Column(*place, ", ".join(parts), label, row.unit, row.higher_is_better))
    return columns


def _what_differs(mine: dict[str, Any], siblings: Iterable[dict[str, Any]]) -> list[str]:
    """Settings in which `mine` is unlike another column of the probe: words as they are, numbers with their names."""
    unlike = [key for key in mine if any(other.get(key) != mine[key] for other in siblings)]
    return [str(mine[key]) if isinstance(mine[key], str) else f"{key.replace('_', ' ')} {mine[key]}" for key in unlike]


def _facts(rows: Sequence[Row]) -> str:
    row = rows[0]
    counts = {entry.n_test for entry in rows}
    tested = f"{row.n_test:,}" if len(counts) == 1 else "several sets of"
    if row.units == "queries":
        facts = f"{row.n_train:,} images in the database, {tested} queries"
    else:
        facts = f"{row.n_train:,} train and {tested} test {row.units}"
    facts += f", {row.n_classes} classes" if row.n_classes else ""
    return facts + (", limited to the first images" if row.limited else "")


def markdown_tables(rows: Sequence[Row]) -> str:
    """All tables as Markdown, with 95 % intervals."""
    parts = []
    for table in build_tables(rows):
        header, lines = table_cells(table)
        body = [header, ["---"] + ["---:"] * (len(header) - 1), *lines]
        grid = "\n".join("| " + " | ".join(markdown_text(cell) for cell in line) + " |" for line in body)
        about = f"{table.task}: {table.facts}, protocol {table.protocol}{table.legend}"
        parts.append(f"{markdown_text(about)}\n\n{grid}")
    return "\n\n".join(parts)


def markdown_text(text: str) -> str:
    """Text that means itself inside a Markdown table and on a terminal: no link, no picture, no markup, no code."""
    marks = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`"), ("](", "]\\("), ("][", "]\\["))
    text = printable(text)
    for mark, escaped in marks:
        text = text.replace(mark, escaped)
    return text


def table_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and lines of one table as text."""
    compared = len(table.lines) > 1
    published = {column for line in table.lines.values() for column, row in line.items() if row.published}
    header = ["model"]
    for column in table.columns:
        header += [f"{column.title} (95 %)"] + ([f"{column.title}, published"] if column in published else [])
    header += [f"difference, {column.label}" for column in table.columns if compared]
    lines = []
    for spec, found in table.lines.items():
        cells = [table.name(spec)]
        for column in table.columns:
            row = found.get(column)
            cells += [value_cell(row)] + ([published_cell(row)] if column in published else [])
        cells += [difference_cell(table.lines[table.ours].get(column), spec) for column in table.columns if compared]
        lines.append(cells)
    return header, lines


def number(value: float, unit: str, *, signed: bool = False) -> str:
    """Shares of 1 in percent with one decimal, other values with three."""
    scaled, digits = (100 * value, 1) if unit == "" else (value, 3)
    return f"{scaled:{'+' if signed else ''}.{digits}f}"


def value_cell(row: Row | None) -> str:
    """`62.1 (58.2 to 65.9)`, or why there is no value."""
    if row is None:
        return ""
    if row.value is None:
        return "unavailable" if row.status != "measured" else "undefined"
    if row.ci_low is None or row.ci_high is None:
        return number(row.value, row.unit)
    low, high = number(row.ci_low, row.unit), number(row.ci_high, row.unit)
    return f"{number(row.value, row.unit)} ({low} to {high})"


def published_cell(row: Row | None) -> str:
    """The paper's number for the same task, model and procedure."""
    return number(row.published["value"], row.unit) if row and row.published else ""


def difference_cell(ours: Row | None, spec: str) -> str:
    """`+32.1 (+28.0 to +36.2)`, with the word tie where the data cannot tell."""
    found = next((entry for entry in ours.comparisons if entry["spec"] == spec), None) if ours else None
    if ours is None or found is None or found["verdict"] == "unavailable":
        return ""
    low, high = (number(found[end], ours.unit, signed=True) for end in ("ci_low", "ci_high"))
    tie = "tie, " if found["verdict"] == "tie" else ""
    return f"{tie}{number(found['delta'], ours.unit, signed=True)} ({low} to {high})"
