import dataclasses
import json

import pytest

from lvd_evaluate.errors import InputError
from lvd_evaluate.scoring.results import (
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


def test_every_reference_names_task_procedure_and_source_and_is_printed_once():
    entries = _reference_results()
    assert len(entries) == 408
    for entry in entries:
        assert entry["tasks"]
        assert entry["source"]
        assert 0 < entry["value"] < (1 if not entry.get("unit") else 5)
    keys = [(entry["task"], entry["model"], entry["procedure"]) for entry in entries]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("task", "n_test", "procedure", "metric", "value"),
    [
        ("imagenet-1k", 50_000, "linear-52-augmented-dinov2-resize256-crop224", "top1", 0.811),
        ("imagenet-a", 7500, "linear-52-augmented-dinov2-resize256-crop224", "top1", 0.335),
        ("imagenet-c", 50_000, "linear-52-augmented-dinov2-resize224-crop224", "mce", 0.544),
        ("cifar10", 10_000, "logistic-45-dinov2-resize224-crop224", "top1", 0.977),
        ("pets", 3669, "logistic-45-dinov2-resize224-crop224", "mean_class", 0.951),
        ("ade20k", 2000, "segmentation-linear-1-dinov2-steps40000x16-resize512-crop512-stride341-x1", "miou", 0.443),
        (
            "nyu",
            654,
            "depth-lin.4-dinov2-rate0.0001-38400x16-to10m-crop416x544-nyu-eigen-native-flip-best48",
            "rmse",
            0.417,
        ),
    ],
)
def test_numbers_of_the_paper_under_the_procedures_that_probes_name(task, n_test, procedure, metric, value):
    found = published_value(task, n_test, "timm:vit_small_patch14_dinov2", procedure, metric)
    assert found is not None
    assert found["value"] == pytest.approx(value)
