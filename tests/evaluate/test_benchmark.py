import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from lvd_evaluate import benchmark
from lvd_evaluate.benchmark import run_benchmark
from lvd_evaluate.encoders import shelf
from lvd_evaluate.errors import InputError
from lvd_evaluate.publish import hold_folder
from lvd_evaluate.recipes import Assignment, build_config
from lvd_evaluate.scoring.results import load_rows, save_rows

WORDS = ["linear.min_steps=40", "linear.epochs=0", "linear.batch_size=32", "bootstrap=500"]


def _run(run_folder, corpus, out, baselines=(), probes=("knn", "linear"), words=()):
    assignment = Assignment(None, [str(corpus)], list(probes), build_config(None, [*WORDS, *words]))
    return run_benchmark(str(run_folder), list(baselines), [assignment], out)


@pytest.fixture(scope="module")
def finished(run_folder, corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "out"
    baselines = [f"untrained:{run_folder}", "pixels:8", "timm:nosuch_model"]
    return out, baselines, _run(run_folder, corpus, out, baselines)


def test_every_model_gets_rows_for_every_probe_k_and_metric(finished):
    _, _, rows = finished
    measured = [(row.model, row.probe, row.metric) for row in rows if row.status == "measured"]
    # 45 train images leave k = 10 and 20; linear has one setting; two metrics each
    for model in ("tiny", "untrained tiny", "raw pixels 8x8"):
        assert [entry[0] for entry in measured].count(model) == (2 + 1) * 2
    assert len([row for row in rows if row.headline and row.metric == "top1" and row.status == "measured"]) == 3 * 2


def test_tables_show_the_metric_that_the_task_names(run_folder, corpus, tmp_path):
    for metric in ("top1", "mean_class"):  # the second finds the first one's results in its folder
        rows = _run(run_folder, corpus, tmp_path, probes=["knn"], words=[f"data.metric={metric}"])
        assert {row.metric for row in rows if row.headline} == {metric}


def test_values_equal_the_saved_predictions(finished):
    out, _, rows = finished
    for row in rows:
        if row.status == "measured" and row.metric == "top1":
            with np.load(out / "predictions" / f"{row.run}.npz") as arrays:
                name = next(
                    key
                    for key in arrays
                    if key.startswith("prediction") and f"k={row.setting.get('k')}" in key + "k=None"
                )
                assert row.value == pytest.approx((arrays[name] == arrays["label"]).mean())
            assert row.ci_low < row.value < row.ci_high or row.value in (0, 1)


def test_differences_are_between_the_same_probe_setting_and_metric(finished):
    _, _, rows = finished
    values = {(row.spec, row.probe, row.metric, row.setting.get("k")): row.value for row in rows}
    ours = [row for row in rows if row.model == "tiny"]
    for row in ours:
        found = [entry for entry in row.comparisons if entry["verdict"] != "unavailable"]
        assert len(found) == 2
        for entry in found:
            other = values[(entry["spec"], row.probe, row.metric, row.setting.get("k"))]
            assert entry["delta"] == pytest.approx(row.value - other)
            assert entry["ci_low"] <= entry["delta"] <= entry["ci_high"]
    assert all(row.comparisons == [] for row in rows if row.model != "tiny")


def test_what_has_no_value_is_compared_with_nothing_and_reads_back(finished, tmp_path):
    """No class counted, or a head that ended without numbers: no difference of NaN, which no row may hold."""
    _, _, rows = finished
    ours, theirs = (next(row for row in rows if row.model == name) for name in ("tiny", "raw pixels 8x8"))
    undefined = dataclasses.replace(ours, value=None, ci_low=None, ci_high=None, comparisons=[])
    (entry,) = benchmark.compare_rows(None, undefined, [undefined, theirs])
    assert entry["verdict"] == "unavailable"
    row = dataclasses.replace(undefined, comparisons=[entry])
    save_rows(tmp_path / "results.jsonl", [row])
    assert load_rows(tmp_path / "results.jsonl") == [row]


def test_an_unavailable_baseline_is_a_row_with_its_reason(finished):
    _, _, rows = finished
    gone = [row for row in rows if row.status == "unavailable"]
    assert [(row.spec, row.probe) for row in gone] == [("timm:nosuch_model", "knn"), ("timm:nosuch_model", "linear")]
    assert all("nosuch_model" in row.reason and row.value is None for row in gone)


def test_every_row_says_how_it_was_measured(finished):
    out, _, rows = finished
    for row in rows:
        if row.status == "measured":
            assert all(
                [row.loader, row.weights_fingerprint, row.preprocessing, row.feature, row.procedure, row.ci_method]
            )
            assert {"torch", "transformers", "numpy", "python", "lvd-evaluate"} <= set(row.versions)
    assert load_rows(out / "results.jsonl") == rows
    assert "min_steps: 40" in (out / "config.yaml").read_text()


def test_finished_rows_are_not_computed_again(finished, run_folder, corpus, monkeypatch):
    out, baselines, rows = finished

    def forbidden(*arguments):
        raise AssertionError("computed again")

    monkeypatch.setattr(benchmark, "run_probe", forbidden)
    assert _run(run_folder, corpus, out, baselines) == rows


def test_the_same_weights_by_another_path_and_name_keep_their_rows_each_once(run_folder, corpus, tmp_path, monkeypatch):
    first = _run(run_folder, corpus, tmp_path, probes=["knn"])
    monkeypatch.setattr(benchmark, "run_probe", None)
    again = _run(f"{run_folder}/", corpus, tmp_path, probes=["knn"], words=["data.name=renamed"])
    assert {row.task for row in again} == {"renamed"}
    for spec in (run_folder, f"{run_folder}/"):
        assert len(_run(spec, corpus, tmp_path, probes=["knn"])) == len(first)


def test_published_numbers_stand_beside_whole_sets_alone(run_folder, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "published_value", lambda *given: {"value": 0.5, "source": "a paper"})
    whole = _run(run_folder, corpus, tmp_path, probes=["knn"])
    part = _run(run_folder, corpus, tmp_path, probes=["knn"], words=["data.limit_train=40"])
    assert {row.published is None for row in whole} == {False}
    assert {row.published is None for row in part} == {True}


def test_killed_between_probes_the_same_command_ends_with_the_same_values(
    finished, run_folder, corpus, tmp_path, monkeypatch
):
    _, baselines, rows = finished
    calls, plain = [], benchmark.run_probe

    class Killed(BaseException):
        pass

    def stop_at_the_fourth(probe, task, encoder, *rest):
        calls.append((encoder.name, probe))
        if len(calls) == 4:
            raise Killed
        return plain(probe, task, encoder, *rest)

    monkeypatch.setattr(benchmark, "run_probe", stop_at_the_fourth)
    with pytest.raises(Killed):
        _run(run_folder, corpus, tmp_path, baselines)
    resumed = _run(run_folder, corpus, tmp_path, baselines)
    assert calls[3] == calls[4] == ("untrained tiny", "linear")
    assert len(calls) == 7

    def lasting(row):
        entry = json.loads(json.dumps(row.__dict__))
        return {
            key: value
            for key, value in entry.items()
            if key not in ("date", "feature_seconds", "probe_seconds", "images_per_second")
        }

    assert [lasting(row) for row in resumed] == [lasting(row) for row in rows]


def test_a_changed_setting_measures_again_on_the_same_features(finished, run_folder, corpus, monkeypatch, tmp_path):
    out, _, _ = finished
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    shards = sorted(copy.glob("features/*/rows-*"))
    rows = _run(run_folder, corpus, copy, probes=["knn"], words=["knn.temperature=0.5"])
    assert all(row.setting["temperature"] == 0.5 for row in rows)
    assert sorted(copy.glob("features/*/rows-*")) == shards
    assert len(load_rows(copy / "results.jsonl")) == len(load_rows(out / "results.jsonl")) + len(rows)


def test_a_baseline_that_comes_back_replaces_its_unavailable_row(run_folder, corpus, tmp_path, monkeypatch):
    plain = shelf.load_encoder

    def unreachable(spec, **options):
        if spec == "pixels:8":
            raise InputError("pixels:8: no network")
        return plain(spec, **options)

    monkeypatch.setattr(shelf, "load_encoder", unreachable)
    _run(run_folder, corpus, tmp_path, ["pixels:8"], probes=["knn"])
    assert [row.reason for row in load_rows(tmp_path / "results.jsonl") if row.status == "unavailable"] == [
        "no network"
    ]
    monkeypatch.setattr(shelf, "load_encoder", plain)
    rows = _run(run_folder, corpus, tmp_path, ["pixels:8"], probes=["knn"])
    assert {row.status for row in rows} == {row.status for row in load_rows(tmp_path / "results.jsonl")} == {"measured"}


def test_a_baseline_with_broken_features_does_not_stop_the_run(run_folder, corpus, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(run_folder / "models" / "step_2", broken)
    state = load_file(broken / "model.safetensors")
    state["layernorm.weight"] = torch.full_like(state["layernorm.weight"], float("nan"))
    save_file(state, broken / "model.safetensors")
    rows = _run(run_folder, corpus, tmp_path / "out", [str(broken)], probes=["knn"])
    assert ["not finite" in row.reason for row in rows if row.status == "unavailable"] == [True]
    with pytest.raises(InputError, match="not finite"):
        _run(broken, corpus, tmp_path / "other", probes=["knn"])


def test_one_recipe_measures_several_tasks_each_beside_the_baseline(run_folder, corpus, tmp_path):
    config = build_config(None, [*WORDS, "retrieval.recall=[1]"])
    assignments = [
        Assignment("colours", [str(corpus)], ["knn"], config),
        Assignment("same colour again", [f"queries={corpus / 'test'}"], ["retrieval"], config),
    ]
    rows = run_benchmark(str(run_folder), ["pixels:8"], assignments, tmp_path)
    assert list(dict.fromkeys((row.task, row.probe) for row in rows)) == [
        ("colours", "knn"),
        ("same colour again", "retrieval"),
    ]
    ours = [row for row in rows if row.model == "tiny"]
    assert {row.units for row in ours} == {"images", "queries"}
    assert all([found["baseline"] for found in row.comparisons] == ["raw pixels 8x8"] for row in ours)
    found = next(row for row in ours if row.metric == "map")
    assert found.ci_low <= found.value <= found.ci_high
    assert found.n_test == 30
    assert run_benchmark(str(run_folder), ["pixels:8"], assignments, tmp_path) == rows


def test_one_model_is_in_memory_at_a_time(run_folder, corpus, tmp_path, monkeypatch):
    import weakref

    opened, alive, plain = [], [], shelf.load_encoder

    def count(spec, **options):
        alive.append(sum(earlier() is not None for earlier in opened))
        encoder = plain(spec, **options)
        opened.append(weakref.ref(encoder))
        return encoder

    monkeypatch.setattr(shelf, "load_encoder", count)
    _run(run_folder, corpus, tmp_path, [f"untrained:{run_folder}", "pixels:8"], probes=["knn"])
    assert alive == [0, 0, 0]


def test_tasks_that_share_a_name_keep_their_settings_apart(run_folder, corpus, tmp_path):
    import yaml

    config = build_config(None, [*WORDS, "data.name=same"])
    tasks = [Assignment(name, [str(corpus)], ["knn"], config) for name in ("one", "two")]
    run_benchmark(str(run_folder), [], tasks, tmp_path)
    assert set(yaml.safe_load((tmp_path / "config.yaml").read_text())) == {"one", "two"}


def test_one_set_is_classified_by_leaving_one_out(run_folder, corpus, tmp_path):
    config = build_config(None, [*WORDS, "knn.leave_one_out=true", "knn.neighbours=[5]", "knn.headline=5"])
    alone = Assignment(None, [str(corpus / "train")], ["knn"], config)
    row, _ = run_benchmark(str(run_folder), ["pixels:8"], [alone], tmp_path)[:2]
    assert row.n_test == 45
    assert 0 < row.value <= 1
    with pytest.raises(InputError, match="kNN alone"):
        run_benchmark(
            str(run_folder), [], [Assignment(None, [str(corpus / "train")], ["knn", "linear"], config)], tmp_path
        )


def test_without_a_baseline_the_openclip_of_nearest_size_is_asked_for(run_folder, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assignment = Assignment(None, [str(corpus)], ["knn"], build_config(None, WORDS))
    rows = run_benchmark(str(run_folder), None, [assignment], tmp_path)
    assert [row.spec for row in rows if row.status == "unavailable"] == ["open_clip:ViT-B-16/laion2b_s34b_b88k"]


def test_the_papers_protocol_is_labelled(run_folder, corpus, tmp_path):
    (row, _) = _run(run_folder, corpus, tmp_path, probes=["linear"], words=["protocol=dinov2"])
    assert row.protocol == "dinov2"
    assert row.notes["chosen_on"] == "the test images themselves"


def test_an_unknown_probe_is_named(run_folder, corpus, tmp_path):
    with pytest.raises(InputError, match="choose among knn, linear, logistic"):
        _run(run_folder, corpus, tmp_path, probes=["knn", "svm"])


def test_two_commands_do_not_write_into_one_folder(run_folder, corpus, tmp_path):
    with hold_folder(tmp_path), pytest.raises(InputError, match="another command is writing here"):
        _run(run_folder, corpus, tmp_path, probes=["knn"])
    assert not (tmp_path / "config.yaml").exists()
    assert _run(run_folder, corpus, tmp_path, probes=["knn"])


def test_a_remeasured_setting_is_the_latest(run_folder, corpus, tmp_path):
    for k in (5, 10, 5):
        _run(run_folder, corpus, tmp_path, probes=["knn"], words=[f"knn.neighbours=[{k}]", f"knn.headline={k}"])
    assert [row.setting["k"] for row in load_rows(tmp_path / "results.jsonl")] == [10, 10, 5, 5]
