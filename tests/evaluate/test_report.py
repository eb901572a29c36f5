import dataclasses
import re

import pytest

from lvd_evaluate.report import build_tables, difference_cell, markdown_tables, write_report
from lvd_evaluate.results import Row


def _row(spec: str, probe: str, value: float | None, **changes) -> Row:
    row = Row(
        run=f"{spec}-{probe}",
        task="birds",
        task_fingerprint="f",
        protocol="clean",
        probe=probe,
        metric="top1",
        model=spec,
        spec=spec,
        loader="timm 1",
        weights_fingerprint="0123456789abcdef",
        num_parameters=1000,
        preprocessing="short side 256",
        feature="class token",
        n_train=1000,
        n_test=600,
        n_classes=10,
        value=value,
        ci_low=None if value is None else value - 0.02,
        ci_high=None if value is None else value + 0.02,
        ci_method="Wilson",
        probe_seconds=1.0,
        images_per_second=10.0,
        seed=0,
        versions={"torch": "2"},
    )
    return dataclasses.replace(row, **changes)


def _comparison(spec: str, delta: float, verdict: str) -> dict:
    low, high = delta - 0.03, delta + 0.03
    return {
        "baseline": spec,
        "spec": spec,
        "delta": delta,
        "ci_low": low,
        "ci_high": high,
        "p": 0.5,
        "verdict": verdict,
    }


@pytest.fixture
def rows():
    gone = {"baseline": "open_clip:X/y", "spec": "open_clip:X/y", "verdict": "unavailable", "reason": "no network"}
    unavailable = {"status": "unavailable", "reason": "no network", "ci_low": None, "ci_high": None}
    return [
        _row("ours", "knn", 0.621, comparisons=[_comparison("pixels", 0.3, "better"), gone]),
        _row("ours", "knn", 0.5, setting={"k": 10}, headline=False),
        _row("ours", "linear", 0.702, comparisons=[_comparison("pixels", 0.01, "tie"), gone]),
        _row("pixels", "knn", 0.321),
        _row("pixels", "linear", 0.692),
        _row("open_clip:X/y", "knn", None, **unavailable),
        _row("open_clip:X/y", "linear", None, **unavailable),
    ]


def test_the_table_shows_values_intervals_differences_and_ties(rows):
    text = markdown_tables(rows)
    assert "birds: 1,000 train and 600 test images, 10 classes, protocol clean" in text
    assert "difference: ours minus the model of that line" in text
    assert "| ours | 62.1 (60.1 to 64.1) | 70.2 (68.2 to 72.2) |  |  |" in text
    assert (
        "| pixels | 32.1 (30.1 to 34.1) | 69.2 (67.2 to 71.2) | +30.0 (+27.0 to +33.0) | tie, +1.0 (-2.0 to +4.0) |"
        in text
    )
    assert "| open_clip:X/y | unavailable | unavailable |  |  |" in text


def test_a_published_number_gets_a_column_only_where_there_is_one(rows):
    assert "published" not in markdown_tables(rows)
    rows[0] = dataclasses.replace(rows[0], published={"value": 0.79, "source": "paper"})
    text = markdown_tables(rows)
    assert "| kNN top-1, published |" in text
    assert "| ours | 62.1 (60.1 to 64.1) | 79.0 |" in text


def test_limits_are_told(rows):
    limited = [dataclasses.replace(row, limited=True) for row in rows]
    assert "limited to the first images" in markdown_tables(limited)


def test_other_tasks_and_protocols_get_their_own_tables(rows):
    more = [*rows, _row("ours", "knn", 0.9, task_fingerprint="g"), _row("ours", "linear", 0.9, protocol="dinov2")]
    assert len(build_tables(more)) == 3


def test_no_difference_no_words(rows):
    assert difference_cell(rows[0], "other") == ""
    assert difference_cell(None, "pixels") == ""


def test_the_page_stands_alone_and_escapes_what_users_wrote(rows, tmp_path):
    rows = [dataclasses.replace(row, model=row.model.replace("ours", "<b>ours</b> & co")) for row in rows]
    page = write_report(rows, tmp_path).read_text()
    assert "<b>ours" not in page
    assert "&lt;b&gt;ours&lt;/b&gt; &amp; co" in page
    assert "<svg" in page
    assert "no network" in page
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert (tmp_path / "report.md").read_text() == markdown_tables(rows) + "\n"


def test_the_page_is_the_same_every_time(rows, tmp_path):
    first = write_report(rows, tmp_path / "a").read_bytes()
    assert write_report(rows, tmp_path / "b").read_bytes() == first
