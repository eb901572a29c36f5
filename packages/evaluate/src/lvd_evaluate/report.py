"""From results.jsonl to a Markdown table and one self-contained HTML page."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lvd_evaluate.publish import publish_bytes
from lvd_evaluate.results import Row, setting_name

PROBE_TITLES = {"knn": "kNN top-1", "linear": "linear top-1"}
COLOURS = {"knn": "#4c78a8", "linear": "#e08214"}


@dataclass
class Table:
    """One model under test and its baselines on one task: lines[spec][probe] is the headline row."""

    task: str
    facts: str
    protocol: str
    probes: list[str]
    ours: str  # spec of the model under test
    lines: dict[str, dict[str, Row]] = field(default_factory=dict)

    @property
    def legend(self) -> str:
        """What the column of differences means."""
        ours = next(iter(self.lines[self.ours].values())).model
        return f"; difference: {ours} minus the model of that line" if len(self.lines) > 1 else ""


def build_tables(rows: Sequence[Row]) -> list[Table]:
    """One table per task, protocol and model that was compared with others; models never compared stand alone."""
    tables: list[Table] = []
    groups = dict.fromkeys((row.task_fingerprint, row.protocol, row.seed) for row in rows)
    for group in groups:
        headline: dict[str, dict[str, Row]] = {}
        for row in rows:
            if (row.task_fingerprint, row.protocol, row.seed) == group and row.headline and row.metric == "top1":
                headline.setdefault(row.spec, {})[row.probe] = row  # the latest settings win
        compared = {spec: _baselines(found.values()) for spec, found in headline.items()}
        members = [[spec, *others] for spec, others in compared.items() if others]
        seen = {spec for specs in members for spec in specs}
        members += [[spec] for spec in headline if spec not in seen]
        for specs in members:
            tables.append(_table([headline[spec] for spec in specs if spec in headline], specs[0]))
    return tables


def _baselines(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(comparison["spec"] for row in rows for comparison in row.comparisons))


def _table(lines: Sequence[dict[str, Row]], ours: str) -> Table:
    row = next(iter(lines[0].values()))
    limited = ", limited to the first images" if row.limited else ""
    facts = f"{row.n_train:,} train and {row.n_test:,} test images, {row.n_classes} classes{limited}"
    probes = [probe for probe in PROBE_TITLES if any(probe in line for line in lines)]
    specs = [next(iter(line.values())).spec for line in lines]
    return Table(row.task, facts, row.protocol, probes, ours, dict(zip(specs, lines, strict=True)))


def markdown_tables(rows: Sequence[Row]) -> str:
    """All tables as Markdown, percent with 95 % intervals."""
    parts = []
    for table in build_tables(rows):
        header, lines = table_cells(table)
        body = [header, ["---"] + ["---:"] * (len(header) - 1), *lines]
        grid = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in body)
        parts.append(f"{table.task}: {table.facts}, protocol {table.protocol}{table.legend}\n\n{grid}")
    return "\n\n".join(parts)


def table_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and lines of one table as text."""
    compared = len(table.lines) > 1
    published = any(row.published for line in table.lines.values() for row in line.values())
    header = ["model"]
    for probe in table.probes:
        title = PROBE_TITLES[probe]
        header += [f"{title} (95 %)"] + ([f"{title}, published"] if published else [])
    if compared:
        header += [f"difference, {PROBE_TITLES[probe].split()[0]}" for probe in table.probes]
    lines = []
    for spec, found in table.lines.items():
        cells = [next(iter(found.values())).model]
        for probe in table.probes:
            row = found.get(probe)
            cells += [value_cell(row)] + ([published_cell(row)] if published else [])
        if compared:
            cells += [difference_cell(table.lines[table.ours].get(probe), spec) for probe in table.probes]
        lines.append(cells)
    return header, lines


def value_cell(row: Row | None) -> str:
    """`62.1 (58.2 to 65.9)`, or why there is no value."""
    if row is None:
        return ""
    if row.value is None or row.ci_low is None or row.ci_high is None:
        return "unavailable"
    return f"{100 * row.value:.1f} ({100 * row.ci_low:.1f} to {100 * row.ci_high:.1f})"


def published_cell(row: Row | None) -> str:
    """The paper's number for the same task, model and procedure."""
    return f"{100 * row.published['value']:.1f}" if row and row.published else ""


def difference_cell(ours: Row | None, spec: str) -> str:
    """`+32.1 (+28.0 to +36.2)`, with the word tie where the data cannot tell."""
    found = next((entry for entry in ours.comparisons if entry["spec"] == spec), None) if ours else None
    if found is None or found["verdict"] == "unavailable":
        return ""
    low, high = 100 * found["ci_low"], 100 * found["ci_high"]
    tie = "tie, " if found["verdict"] == "tie" else ""
    return f"{tie}{100 * found['delta']:+.1f} ({low:+.1f} to {high:+.1f})"


def write_report(rows: Sequence[Row], folder: Path) -> Path:
    """Write report.html (nothing loaded from elsewhere) and report.md into `folder`; return the page's path."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lvd_evaluate", "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    sections = []
    for table in build_tables(rows):
        header, lines = table_cells(table)
        sections.append(
            {
                "table": table,
                "header": header,
                "lines": lines,
                "figure": draw_figure(table),
                "reasons": _reasons(table),
                "details": _details(table, rows),
            }
        )
    page = environment.get_template("report.html.j2").render(sections=sections)
    publish_bytes(folder / "report.md", (markdown_tables(rows) + "\n").encode())
    publish_bytes(folder / "report.html", page.encode())
    return folder / "report.html"


def _reasons(table: Table) -> list[tuple[str, str]]:
    rows = [row for line in table.lines.values() for row in line.values() if row.reason]
    return list(dict.fromkeys((row.model, row.reason or "") for row in rows))


def _details(table: Table, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every measured setting and metric of the table's runs, best-known facts first."""
    runs = {row.run for line in table.lines.values() for row in line.values()}
    measured = [row for row in rows if row.run in runs and row.spec in table.lines and row.status == "measured"]
    return [
        {"row": row, "setting": setting_name(row.setting), "value": value_cell(row)}
        for row in sorted(measured, key=lambda row: list(table.lines).index(row.spec))
    ]


def draw_figure(table: Table) -> str:
    """Bars with 95 % intervals as an SVG element."""
    import matplotlib
    from matplotlib.figure import Figure

    lines = [line for line in table.lines.values() if any(row.value is not None for row in line.values())]
    models = [next(iter(line.values())).model for line in lines]
    height = 0.8 / len(table.probes)
    figure = Figure(figsize=(8.4, 0.9 + 0.62 * len(models)), layout="constrained")
    axes = figure.subplots()
    for order, probe in enumerate(table.probes):
        for place, line in enumerate(lines):
            row = line.get(probe)
            if row is None or row.value is None or row.ci_low is None or row.ci_high is None:
                continue
            value = 100 * row.value
            margins = [[max(value - 100 * row.ci_low, 0)], [max(100 * row.ci_high - value, 0)]]
            position = place + (order - (len(table.probes) - 1) / 2) * height
            label = PROBE_TITLES[probe] if place == 0 else None
            axes.barh(
                position,
                value,
                0.9 * height,
                xerr=margins,
                color=COLOURS[probe],
                label=label,
                error_kw={"capsize": 3, "lw": 1},
            )
            axes.text(100 * row.ci_high + 1, position, f"{value:.1f}", va="center", fontsize=9)
    axes.set(
        xlim=(0, 108), xlabel="top-1, percent; whiskers: 95 % interval", yticks=range(len(models)), yticklabels=models
    )
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": table.ours, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
