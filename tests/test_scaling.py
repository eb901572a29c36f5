"""docs/scaling.md against its figures, its figures against what is on record, and against the code they describe."""

from __future__ import annotations

import importlib
import json
import sys
from functools import reduce
from pathlib import Path

import pytest
import torch

from lvd_pretrain.distillation import build_method
from lvd_pretrain.recipes import build_config, find_recipe
from lvd_pretrain.rehearsal import Rehearsal, rehearse, size_of

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
scaling, curation, training = map(importlib.import_module, ("scaling", "scaling_curation", "scaling_training"))
FIGURES = scaling.read_figures()


def test_the_page_is_as_its_figures_have_it():
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert len(scaling.BLOCK.findall(text)) == 7
    assert scaling.render_page(text) == text, "run: python scripts/scaling.py"


@pytest.mark.parametrize("name", FIGURES["measured"])
def test_a_measured_figure_is_on_record(name):
    figure = FIGURES["measured"][name]
    package, benchmark = figure["record"].split("/")
    lines = map(json.loads, (ROOT / "benchmarks/results" / f"{package}.jsonl").read_text().splitlines())
    found = [find(line, figure["path"].split(".")) for line in lines if line["benchmark"] == benchmark]
    assert any(value == pytest.approx(figure["value"], rel=1e-3) for value in found if value is not None)


def find(tree, path):
    """The value at a path, None where there is none."""

    def enter(tree, key):
        if isinstance(tree, list):
            return tree[int(key)] if int(key) < len(tree) else None
        return tree.get(key) if isinstance(tree, dict) else None

    return reduce(enter, path, tree)


@pytest.mark.parametrize("name", training.RECIPES)
def test_rehearsed_weights_are_those_of_the_recipe(name):
    with torch.device("meta"):
        method = build_method(build_config(find_recipe(name), []))
    held = Rehearsal(**FIGURES["rehearsed"][name])
    assert (held.student, held.frozen) == (size_of(method.student), size_of(method.teacher))


def test_a_rehearsal_on_record_is_near_what_the_code_holds_now():
    now = rehearse(build_config(find_recipe("vitg14"), []))
    then = FIGURES["rehearsed"]["vitg14"]["activations"]
    assert now.activations == pytest.approx(then, rel=0.1), "run: python scripts/scaling.py --rehearse"


def test_pools_differ_in_what_grows():
    small, large = ({cost.stage: cost for cost in curation.plan_pool(FIGURES, pool)} for pool in (10**8, 12 * 10**8))
    for stage in ("screen", "embed", "embed-copies"):
        assert large[stage].seconds == pytest.approx(12 * small[stage].seconds)
    assert large["deduplicate"].seconds > 12 * small["deduplicate"].seconds
    assert large["cluster"].seconds < 12 * small["cluster"].seconds  # the fit is the same


def test_published_hours_are_within_what_a_gpu_can_do():
    for name, published in FIGURES["published"].items():
        plan = training.plan_recipe(FIGURES, name, published["gpus"])
        assert plan.config.optim.batch_size == published["batch"]
        least = published["gpus"] * plan.config.optim.steps * plan.seconds(training.RATES["A100"], 1.0) / 3600
        assert 0.25 < least / published["a100_hours"] < 0.5
