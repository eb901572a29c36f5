"""Figures of the report as SVG elements: bars with intervals, few-shot curves, per-class differences."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lvd_evaluate.errors import printable
from lvd_evaluate.reporting.tables import Column, Table, number, probe_title
from lvd_evaluate.scoring.results import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#4c78a8", "#e08214", "#54a24b", "#b279a2", "#9d755d", "#e45756", "#72b7b2", "#767676")
SHOTS = "per_class"  # the setting that makes a curve
NAME_LIMIT = 44  # characters of a name inside a figure; the tables give all of it


def draw_bars(table: Table) -> list[str]:
    """Values with 95 % intervals, one figure per unit: shares of 1 in percent apart from metres."""
    figures = []
    for unit in dict.fromkeys((column.unit, column.higher_is_better) for column in table.columns):
        columns = [column for column in table.columns if (column.unit, column.higher_is_better) == unit]
        specs = [spec for spec, line in table.lines.items() if any(_measured(line.get(column)) for column in columns)]
        if specs:
            figures.append(_draw_bars(table, columns, specs))
    return figures


def _draw_bars(table: Table, columns: Sequence[Column], specs: Sequence[str]) -> str:
    from matplotlib.figure import Figure

    scale, unit = (100.0, "percent") if columns[0].unit == "" else (1.0, _short(columns[0].unit.replace("1", "value")))
    height = 0.8 / len(columns)
    figure = Figure(figsize=(8.4, 0.9 + (0.34 + 0.28 * len(columns)) * len(specs)), layout="constrained")
    axes = figure.subplots()
    reach = max(_high(row) for spec in specs for column in columns if (row := table.lines[spec].get(column)))
    for order, column in enumerate(columns):
        label: str | None = _short(column.title)
        for place, spec in enumerate(specs):
            row = table.lines[spec].get(column)
            if row is None or row.value is None:
                continue
            value = scale * row.value
            low, high = (scale * (row.value if end is None else end) for end in (row.ci_low, row.ci_high))
            margins = [[max(value - low, 0)], [max(high - value, 0)]]
            position = place + (order - (len(columns) - 1) / 2) * height
            colour, line = COLOURS[order % len(COLOURS)], {"capsize": 3, "lw": 1}
            axes.barh(position, value, 0.9 * height, xerr=margins, color=colour, label=label, error_kw=line)
            axes.text(high + 0.01 * scale * reach, position, number(row.value, row.unit), va="center", fontsize=9)
            label = None  # one entry of the legend per column
    lower = "" if columns[0].higher_is_better else "; lower is better"
    axes.set(xlim=(0, 1.1 * scale * reach), xlabel=f"{unit}; whiskers: 95 % interval{lower}")
    axes.set(yticks=range(len(specs)), yticklabels=[_short(table.name(spec)) for spec in specs])
    axes.invert_yaxis()
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return _svg(figure, f"{table.ours} {columns[0].unit}")


def draw_curves(rows: Sequence[Row]) -> list[str]:
    """Few-shot headlines of one task over the images per class: a figure per probe and metric, a line per model."""
    from matplotlib.figure import Figure

    few = [row for row in rows if row.headline and row.value is not None and _shots(row)]
    figures = []
    for probe, metric in dict.fromkeys((row.probe, row.metric) for row in few):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        mine = [row for row in few if (row.probe, row.metric) == (probe, metric)]
        for order, spec in enumerate(dict.fromkeys(row.spec for row in mine)):
            line = {_shots(row): row for row in mine if row.spec == spec}  # the latest run wins
            counts = sorted(line)
            values = np.array([[line[n].value, line[n].ci_low, line[n].ci_high] for n in counts], dtype=np.float64)
            values = 100 * np.where(np.isnan(values), values[:, :1], values)  # [n, 3]
            margins = np.abs(values[:, 1:] - values[:, :1]).T
            axes.errorbar(
                counts,
                values[:, 0],
                margins,
                marker="o",
                capsize=3,
                lw=1.5,
                color=COLOURS[order % len(COLOURS)],
                label=_short(line[counts[0]].model),
            )
        axes.set(xscale="log", xlabel="train images per class", ylabel=f"{_short(probe_title(probe, metric))}, percent")
        ticks = sorted({_shots(row) for row in mine})
        axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=9)
        figures.append(_svg(figure, f"{probe} {metric}"))
    return figures


def draw_class_differences(classes: Sequence[str], differences: np.ndarray, title: str) -> str:
    """Bars of one value per class, shares of 1, in the order given."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 0.9 + 0.24 * len(classes)), layout="constrained")
    axes = figure.subplots()
    colours = [COLOURS[0] if value >= 0 else COLOURS[1] for value in differences]
    axes.barh(range(len(classes)), 100 * differences, 0.8, color=colours)
    axes.set(yticks=range(len(classes)), yticklabels=[_short(name) for name in classes], xlabel=title)
    axes.axvline(0, color="#1d2430", lw=0.8)
    axes.invert_yaxis()
    return _svg(figure, title)


def _shots(row: Row) -> int:
    """Train images per class of a few-shot row, else 0."""
    return int(row.setting.get(SHOTS, 0))


def _measured(row: Row | None) -> bool:
    return row is not None and row.value is not None


def _high(row: Row) -> float:
    return max(row.value or 0.0, row.ci_high or 0.0, 1e-9)


def _short(name: str) -> str:
    """A name that leaves room for bars; dollar signs stay what they are instead of starting a formula."""
    name = printable(" ".join(name.split())).replace("$", r"\$")
    return name if len(name) <= NAME_LIMIT else f"{name[: NAME_LIMIT // 2]}...{name[-NAME_LIMIT // 2 :]}"


def _svg(figure: Figure, salt: str) -> str:
    """The figure as an SVG element, the same for the same input."""
    import matplotlib

    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    with (
        matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none", "font.family": "sans-serif"}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph")  # the text stays text: the reader's own fonts draw it
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
