"""The strings of reference_results.json are those that the probes give when they run the paper's protocol."""

import dataclasses
import json
from importlib import resources
from types import SimpleNamespace

import pytest
import torch

from lvd_evaluate.config import KnnConfig, LogisticConfig
from lvd_evaluate.contracts import Features
from lvd_evaluate.probes import depth, logistic, segmentation
from lvd_evaluate.probes.knn import evaluate_knn
from lvd_evaluate.recipes import build_benchmark
from lvd_evaluate.tasks.definitions import recipe_of


@pytest.fixture(scope="module")
def published():
    return json.loads(resources.files("lvd_evaluate").joinpath("reference_results.json").read_text())["procedures"]


@pytest.fixture
def defined(tmp_path):
    """The settings of a task's definition."""

    def settings(task):
        (tmp_path / "recipe.yaml").write_text(recipe_of([task]))
        return build_benchmark(tmp_path / "recipe.yaml", []).assignments[0].config

    return settings


@pytest.fixture
def encoder(colour_encoder):
    colour_encoder.resize_size, colour_encoder.image_size = 256, 224
    return colour_encoder


def test_knn(encoder, published):
    features = Features(torch.rand(30, 1, 4), None, torch.arange(30) % 3, 1.0, 1.0)
    outcomes = evaluate_knn(features, features, 3, encoder, KnnConfig())
    assert next(outcome for outcome in outcomes if outcome.headline).procedure in published


def test_logistic(published, defined):
    assert defined("pets").data.crop_ratio == 1
    assert defined("pets").data.image_size == 224
    assert f"logistic-{logistic.grid_name(LogisticConfig())}-dinov2-resize224-crop224" in published


@pytest.mark.parametrize("variant", ["linear", "multiscale"])
@pytest.mark.parametrize("task", ["ade20k", "voc2012"])
def test_segmentation(task, variant, published, defined):
    config = defined(task)
    assert variant in config.segmentation.variants
    assert not config.segmentation.learning_rates + config.segmentation.weight_decays
    sizes = getattr(config.segmentation, variant)
    plan = SimpleNamespace(
        variant=variant, protocol="dinov2", grid=[(1e-3, 1e-4)], config=config.segmentation, sizes=sizes
    )
    assert segmentation._procedure(plan) in published


@pytest.mark.parametrize("task", ["nyu", "kitti"])
@pytest.mark.parametrize("head", ["lin.1", "lin.4"])
def test_depth(task, head, published, defined):
    """The paper's numbers are the best of 48 evaluations on test; ours, of the last step, do not stand beside them."""
    config = defined(task).depth
    name = depth.name_procedure(head, config, "dinov2")
    assert f"{name}-best48" in published
    assert name not in published
    other = depth.name_procedure(head, dataclasses.replace(config, steps=100), "dinov2")
    assert f"{other}-best48" not in published
