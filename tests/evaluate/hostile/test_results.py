"""Results, predictions, pictures and features that others wrote: read as data, shown as text, or computed again."""

import json
import os
import shutil

import numpy as np
import pytest
from tests.evaluate.hostile.conftest import CODES, FAST, TITLE
from tests.hostile_files import Malice

from lvd_evaluate.benchmark import run_benchmark
from lvd_evaluate.recipes import Assignment, build_config


@pytest.fixture(scope="module")
def measured(run_folder, corpus, tmp_path_factory):
    """A folder of results."""
    out = tmp_path_factory.mktemp("measured")
    work = [Assignment(None, [str(corpus)], ["knn"], build_config(None, [*FAST]))]
    run_benchmark(str(run_folder), ["pixels:8"], work, out)
    return out


@pytest.fixture
def results(measured, tmp_path):
    """A copy of it."""
    return shutil.copytree(measured, tmp_path / "results")


def edited(**fields: object):
    """The rows, each with other fields."""

    def write(lines: list[str]) -> bytes:
        return "".join(json.dumps(json.loads(line) | fields) + "\n" for line in lines).encode()

    return write


HOSTILE_RESULTS = {
    "no JSON": b"<html>\n",
    "a list": b"[1]\n",
    "a number": b"7\n",
    "empty line": b"\n",
    "deep": b"[" * 100_000,
    "UTF-16": '{"run": "a"}\n'.encode("utf-16"),
    "invalid UTF-8": b'{"run": "\xff"}\n',
    "cut": lambda lines: lines[0][:99].encode(),
    "unknown field": edited(**{"\x1b[2J": 1}),
    "value as text": edited(value="0.5"),
    "value NaN": edited(value=float("nan")),
    "value infinite": edited(ci_high=float("inf")),
    "value as boolean": edited(value=True),
    "value beyond figures": edited(value=1e308),
    "long number": lambda lines: b'{"value": ' + b"9" * 5000 + b"}\n",
    "setting as list": edited(setting=[]),
    "shots as text": edited(setting={"per_class": "x"}),
    "comparisons without a verdict": edited(comparisons=[{"spec": "x"}]),
    "difference as text": edited(comparisons=[{"spec": "x", "baseline": "x", "verdict": "tie", "delta": "x"}]),
    "published without a value": edited(published={"source": "x"}),
    "versions as list": edited(versions=["x"]),
    "a billion classes": edited(n_classes=10**12),
    "run elsewhere": edited(run="../../secret"),
    "run absolute": edited(run="/etc"),
    "line of 10 MB": edited(reason="x" * 10_000_000),
    "text of 100 kB": edited(model="x" * 100_000),
}


@pytest.mark.parametrize("name", HOSTILE_RESULTS)
def test_hostile_results_are_refused_by_line(call, results, name):
    file = results / "results.jsonl"
    lines, content = file.read_text().splitlines(), HOSTILE_RESULTS[name]
    file.write_bytes(content(lines) if callable(content) else content)
    before = file.read_bytes()
    code, _, told = call("report", results)
    assert code == 2
    assert "line 1: no lvd-results-v1 row" in told
    assert len(told) < 2000
    assert file.read_bytes() == before


MARKUP = (
    "model",
    "task",
    "protocol",
    "probe",
    "metric",
    "spec",
    "loader",
    "preprocessing",
    "feature",
    "procedure",
    "unit",
    "units",
)


def test_markup_in_every_field_of_a_row_is_shown_and_never_obeyed(call, results, expect_harmless):
    lines = (results / "results.jsonl").read_text().splitlines()
    hostile = {field: f"{TITLE}{CODES} ![x](http://host/x.png) {field}" for field in MARKUP}
    rows = edited(**hostile, setting={TITLE: TITLE + CODES}, notes={"chosen_on": TITLE}, versions={TITLE: TITLE})(
        lines[:1]
    )
    missing = {"status": "unavailable", "reason": TITLE + CODES, "value": None, "spec": "x", "comparisons": []}
    rows += edited(**missing, versions={TITLE: CODES})(lines[:1])
    (results / "results.jsonl").write_bytes(rows + rows)  # and twice
    code, printed, told = call("report", results)
    assert code == 0, told
    assert "![x](" not in printed
    expect_harmless(results, printed)


@pytest.mark.parametrize("how", ["cut", "pickle", "other shapes", "empty", "beyond"])
def test_hostile_predictions_are_left_out_of_the_report(call, results, trace, caplog, how):
    for file in (results / "predictions").glob("*.npz"):
        arrays = dict(np.load(file))
        name = next(key for key in arrays if key.startswith("prediction "))
        if how == "cut":
            file.write_bytes(file.read_bytes()[:200])
        elif how == "pickle":
            np.savez(file, **(arrays | {"label": np.array([Malice(trace)], dtype=object)}))
        else:
            wrong = {"other shapes": np.zeros(3, int), "empty": np.zeros(0, int), "beyond": arrays["label"] + 10**15}
            np.savez(file, **(arrays | {name: wrong[how]}))
    code, printed, told = call("report", results)
    assert code == 0, told
    assert "kNN top-1" in printed
    assert "single classes are left out" in caplog.text


def test_pictures_beside_the_results_are_read_from_there_alone(call, results, make_image, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.png").write_bytes(make_image(0, np.random.default_rng(0)))
    (results / "pictures").mkdir()
    os.mkfifo(results / "pictures" / "pipe.png")
    (results / "pictures" / f"{TITLE.replace('/', '')}.png").write_bytes(b"<svg onload=alert(1)>")
    code, _, told = call("report", results)
    assert code == 0, told
    assert "<svg onload" not in (results / "report.html").read_text()


@pytest.mark.parametrize("how", ["cut", "pickle", "other shape"])
def test_a_poisoned_shard_of_features_is_computed_again(knn, results, trace, how):
    before = {file: file.read_bytes() for file in (results / "features").rglob("cls.npy")}
    for file in before:
        if how == "cut":
            file.write_bytes(before[file][:-9])
        elif how == "pickle":
            np.save(file, np.array([Malice(trace)], dtype=object))
        else:
            np.save(file, np.zeros((2, 2), np.float16))
    shutil.rmtree(results / "predictions")
    (results / "results.jsonl").unlink()
    code, _, told = knn("--baseline", "pixels:8", out=results)
    assert code == 0, told
    assert {file: file.read_bytes() for file in before} == before
