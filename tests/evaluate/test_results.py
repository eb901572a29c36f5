import dataclasses
import json

import pytest

from lvd_evaluate.errors import InputError
from lvd_evaluate.results import (
    Row,
    _reference_results,
    load_rows,
    published_value,
    save_rows,
)

ROW = Row(
    run="r1",
    task="t",
    task_fingerprint="f",
    protocol="clean",
    probe="knn",
    metric="top1",
    model="m",
    spec="m",
    n_train=4,
    n_test=2,
    n_classes=2,
    seed=0,
    setting={"k": 20},
    value=0.5,
)


def test_rows_read_back_and_the_last_of_equals_wins_and_is_the_latest(tmp_path):
    later, other = dataclasses.replace(ROW, value=0.7), dataclasses.replace(ROW, setting={"k": 10})
    save_rows(tmp_path / "results.jsonl", [ROW, other, later])
    assert load_rows(tmp_path / "results.jsonl") == [other, later]


def test_each_line_is_plain_json_that_names_its_format(tmp_path):
    save_rows(tmp_path / "results.jsonl", [ROW])
    (line,) = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["format"] == "lvd-results-v1"


@pytest.mark.parametrize("line", ["{", '{"model": "m"}', '{"surprise": 1}'])
def test_a_line_of_another_kind_is_named(tmp_path, line):
    save_rows(tmp_path / "results.jsonl", [ROW])
    with open(tmp_path / "results.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match="line 2"):
        load_rows(tmp_path / "results.jsonl")


def test_published_numbers_stand_only_beside_the_same_task_model_and_procedure():
    knn = "knn-cosine-k20-t0.07-resize256-crop224"
    spec = "transformers:facebook/dinov2-small"
    found = published_value("ILSVRC/imagenet-1k", 50_000, spec, knn, "top1")
    assert found is not None
    assert found["value"] == pytest.approx(0.79)
    assert "2304.07193" in found["source"]
    for changed in (
        ("cifar10", 50_000, spec, knn, "top1"),
        ("imagenet-1k", 1000, spec, knn, "top1"),
        ("imagenet-1k", 50_000, "runs/tiny", knn, "top1"),
        ("imagenet-1k", 50_000, spec, "linear-52-cached-clean-resize256-crop224", "top1"),
        ("imagenet-1k", 50_000, spec, knn.replace("k20", "k10"), "top1"),
        ("imagenet-1k", 50_000, spec, knn, "mean_class"),
    ):
        assert published_value(*changed) is None


def test_every_reference_names_model_source_and_a_percentage():
    entries = _reference_results()
    assert {entry["task"] for entry in entries} == {"imagenet-1k", "cifar10", "cifar100"}
    for entry in entries:
        assert entry["specs"]
        assert entry["source"]
        assert 0 < entry["value"] < 1
    keys = [(entry["task"], entry["model"], entry["procedure"]) for entry in entries]
    assert len(set(keys)) == len(keys)
