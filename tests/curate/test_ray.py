"""The same recipe on a local Ray cluster with two workers gives the same dataset, to the byte."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.trees import read_tree

from lvd_curate.config import ExecutionConfig, build_config
from lvd_curate.pipeline import build_lvd
from lvd_curate.recipes import BuildConfig


@pytest.mark.slow
def test_a_ray_cluster_builds_the_same_bytes(
    world_sets: dict[str, dict[str, str]], encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # nobody asked for that one
    words = [f"embed.encoder={encoder}", "rebalance.target_size=6", "rebalance.levels=[3,2]"]
    config = build_config(BuildConfig, None, words, world_sets)
    inline = ExecutionConfig(engine="inline", device="cpu")
    ray = ExecutionConfig(engine="ray", device="cpu", workers=2)
    assert build_lvd(replace(config, execution=inline), tmp_path / "inline")
    assert build_lvd(replace(config, execution=ray), tmp_path / "ray")
    assert read_tree(tmp_path / "ray") == read_tree(tmp_path / "inline")
