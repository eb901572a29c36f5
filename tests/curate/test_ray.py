"""The same recipe on a local Ray cluster with two workers gives the same dataset, to the byte."""

from dataclasses import replace
from pathlib import Path

import pytest

from lvd_curate.config import ExecutionConfig, build_config
from lvd_curate.pipeline import build_lvd
from lvd_curate.recipes import BuildConfig


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_a_ray_cluster_builds_the_same_bytes(
    world: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # nobody asked for that one
    sets = {
        "pool": {"p": str(world / "pool")},
        "seeds": {"s": str(world / "seeds")},
        "exclude": {"t": str(world / "test")},
    }
    words = [f"embed.encoder={encoder}", "rebalance.target_size=6", "rebalance.levels=[3,2]"]
    config = build_config(BuildConfig, None, words, sets)
    inline = ExecutionConfig(engine="inline", device="cpu")
    ray = ExecutionConfig(engine="ray", device="cpu", workers=2)
    assert build_lvd(replace(config, execution=inline), tmp_path / "inline")
    assert build_lvd(replace(config, execution=ray), tmp_path / "ray")
    assert read_tree(tmp_path / "ray") == read_tree(tmp_path / "inline")
