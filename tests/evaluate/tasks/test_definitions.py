import json
from importlib import resources

import pytest
import yaml

from lvd_evaluate.errors import InputError
from lvd_evaluate.opening import KINDS
from lvd_evaluate.recipes import build_benchmark
from lvd_evaluate.tasks.definitions import definition_names, list_definitions, load_definition, recipe_of

READABLE = [name for name in definition_names() if name != "sun-rgbd"]


@pytest.mark.parametrize("name", definition_names())
def test_facts_are_of_known_kinds_and_have_a_source(name):
    found = load_definition(name)
    assert found.source
    assert found.kind in (*KINDS.values(), "robustness")
    assert all(count > 0 for count in found.counts.values())
    assert all(KINDS[probe] == found.kind for probe in found.probes)


def test_every_definition_is_an_entry_of_a_recipe_whose_settings_are_known(tmp_path):
    (tmp_path / "recipe.yaml").write_text(recipe_of(READABLE))
    assignments = build_benchmark(tmp_path / "recipe.yaml", []).assignments
    assert [assignment.name for assignment in assignments] == READABLE
    assert {assignment.config.protocol for assignment in assignments} == {"dinov2"}
    assert {probe for assignment in assignments for probe in assignment.probes} <= set(KINDS)


def test_settings_reach_the_recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text(recipe_of(["nyu", "ade20k", "imagenet-a"]))
    depth, masks, hard = build_benchmark(tmp_path / "recipe.yaml", []).assignments
    assert depth.config.data.depth_scale == 0.001
    assert depth.config.depth.eval_crop == "eigen"
    assert masks.config.data.zero_label_is_void
    assert masks.data == ["train=PATH", "test=PATH"]
    assert hard.data == ["ILSVRC/imagenet-1k", "imagenet-a=PATH"]


def test_counts_and_names_agree_with_the_reference_results():
    """A published number can stand beside a row only if the task's name, size and metric are the reference's."""
    references = json.loads(resources.files("lvd_evaluate").joinpath("reference_results.json").read_text())["tasks"]
    by_name = {name: task for task in references.values() for name in task["tasks"]}
    for name in definition_names():
        found, reference = load_definition(name), by_name[name]
        tested = found.counts.get("test", found.counts.get("queries"))
        assert reference["n_test"] == tested or None in (reference["n_test"], tested)
        metrics = {task["metric"] for task in references.values() if name in task["tasks"]}
        assert found.metric in metrics


def test_a_task_that_no_probe_reads_says_so_and_an_unknown_one_names_the_nearest():
    with pytest.raises(InputError, match="no probe of ours does that"):
        recipe_of(["sun-rgbd"])
    with pytest.raises(InputError, match="nearest is 'imagenet-1k'"):
        load_definition("imagenet1k")


def test_the_list_has_a_line_for_each():
    lines = list_definitions().splitlines()
    assert len(lines) == 1 + len(definition_names())
    assert any(line.split()[:3] == ["ade20k", "segmentation", "miou"] for line in lines)


def test_the_file_is_plain_data():
    text = resources.files("lvd_evaluate").joinpath("task_definitions.yaml").read_text()
    assert list(yaml.safe_load(text)) == definition_names()
