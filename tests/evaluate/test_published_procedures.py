"""The strings of reference_results.json are those that the probes give when they run the paper's protocol."""

import dataclasses
import json
from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lvd_evaluate.config import DepthConfig, KnnConfig, LogisticConfig, SegmentationConfig
from lvd_evaluate.contracts import Features
from lvd_evaluate.probes import depth, logistic, segmentation
from lvd_evaluate.probes.knn import evaluate_knn


@pytest.fixture(scope="module")
def published():
    return json.loads(resources.files("lvd_evaluate").joinpath("reference_results.json").read_text())["procedures"]


@pytest.fixture
def encoder(colour_encoder):
    colour_encoder.resize_size, colour_encoder.image_size = 256, 224
    return colour_encoder


def test_knn(encoder, published):
    features = Features(torch.rand(30, 1, 4), None, torch.arange(30) % 3, 1.0, 1.0)
    outcomes = evaluate_knn(features, features, 3, encoder, KnnConfig())
    assert next(outcome for outcome in outcomes if outcome.headline).procedure in published


def test_logistic(published):
    assert f"logistic-{logistic.grid_name(LogisticConfig())}-dinov2-resize224-crop224" in published


@pytest.mark.parametrize("variant", ["linear", "multiscale"])
def test_segmentation(variant, published):
    config = SegmentationConfig()
    plan = SimpleNamespace(
        variant=variant, protocol="dinov2", grid=[(1e-3, 1e-4)], config=config, sizes=getattr(config, variant)
    )
    assert segmentation._procedure(plan) in published


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": (416, 544), "region": "nyu", "eval_crop": "eigen"},
        {"crop": (352, 704), "region": "kb", "eval_crop": "garg", "max_depth": 80.0},
    ],
)
def test_depth(settings, published):
    config = DepthConfig(learning_rates=(1e-4,), **settings)
    candidate = SimpleNamespace(kind="lin.1", rate=1e-4)
    reader = SimpleNamespace(feature=lambda kind: "", sizes="")
    values = np.zeros((2, 3, 9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(depth, "to_measurements", lambda values: [])
        outcome = depth.describe_outcome(candidate, reader, config, "dinov2", values, 0, 0.1)
    assert outcome.procedure in published
    other = dataclasses.replace(config, steps=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(depth, "to_measurements", lambda values: [])
        assert depth.describe_outcome(candidate, reader, other, "dinov2", values, 0, 0.1).procedure not in published
