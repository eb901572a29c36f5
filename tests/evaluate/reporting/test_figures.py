import dataclasses

import numpy as np
import pytest

from lvd_evaluate.reporting.figures import draw_bars, draw_class_differences, draw_curves
from lvd_evaluate.reporting.tables import build_tables


def test_bars_name_models_and_columns_and_leave_out_who_was_not_measured(report_rows):
    (figure,) = draw_bars(build_tables(report_rows)[0])
    for text in ("ours", "pixels", "62.1", "kNN top-1", "linear top-1", "percent"):
        assert text in figure
    assert "open_clip" not in figure


def test_percent_and_metres_are_drawn_apart(make_row):
    rows = [
        make_row("ours", "knn", 0.5),
        make_row("ours", "depth", 0.4, metric="rmse", unit="m", higher_is_better=False),
    ]
    figures = draw_bars(build_tables(rows)[0])
    assert len(figures) == 2
    assert "lower is better" in figures[1]
    assert "0.400" in figures[1]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a & b", "$x$ $\\frac{", "日本語 " * 40])
def test_no_name_breaks_a_figure(report_rows, name):
    rows = [dataclasses.replace(row, model=name) for row in report_rows]
    (figure,) = draw_bars(build_tables(rows)[0])
    assert "<script>" not in figure
    assert "<script>" not in draw_class_differences([name], np.array([0.1]), "title")


def test_nothing_measured_nothing_drawn(report_rows):
    gone = [dataclasses.replace(row, status="unavailable", value=None) for row in report_rows]
    assert draw_bars(build_tables(gone)[0]) == []


def test_few_shot_rows_make_a_curve_per_probe(make_row):
    rows = [
        make_row(spec, "few_shot_knn", 0.3 + 0.05 * n - 0.01 * k, setting={"per_class": n, "k": k}, headline=k == 1)
        for spec in ("ours", "pixels")
        for n in (1, 5)
        for k in (1, 3)
    ]
    (figure,) = draw_curves(rows)
    assert draw_curves(rows) == draw_curves([row for row in rows if row.headline])
    assert "train images per class" in figure
    assert "ours" in figure
    assert draw_curves([make_row("ours", "knn", 0.5)]) == []


def test_figures_are_the_same_every_time(report_rows):
    table = build_tables(report_rows)[0]
    assert draw_bars(table) == draw_bars(table)
