"""`build_lvd` started again: what changed is built anew, what was stopped goes on to the same bytes."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.trees import read_tree

from lvd_curate.engine import artifacts
from lvd_curate.errors import InputError
from lvd_curate.pipeline import build_lvd
from lvd_curate.recipes import BuildConfig
from lvd_curate.stages import deduplicate


def test_started_again_it_says_so_and_refuses_other_inputs(config: BuildConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert build_lvd(config, out)
    before = read_tree(out)
    assert not build_lvd(config, out)
    assert read_tree(out) == before
    with pytest.raises(InputError, match="not this recipe's dataset"):
        build_lvd(replace(config, random_seed=1), out)


def test_an_input_that_changed_makes_another_dataset(config: BuildConfig, world: Path, tmp_path: Path) -> None:
    pool = shutil.copytree(world / "pool", tmp_path / "pool")
    config = replace(config, pool={"pool": str(pool)})
    assert build_lvd(config, tmp_path / "out")
    (pool / "a/29.jpg").unlink()
    with pytest.raises(InputError, match="made from other inputs"):
        build_lvd(config, tmp_path / "out")


def count_artifacts(work: Path) -> dict[str, int]:
    names = ("screen", "embed", "embed-copies", "deduplicate", "decontaminate", "cluster", "retrieve", "rebalance")
    folders = [path.name.rpartition("-")[0] for path in work.iterdir() if path.is_dir()]
    return {name: folders.count(name) for name in names}


def test_whatever_changes_upstream_runs_anew_downstream(
    config: BuildConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    config = replace(
        config,
        deduplicate=replace(config.deduplicate, encoder=config.embed.encoder, threshold=1.0),
        decontaminate=replace(config.decontaminate, threshold=1.0),
        rebalance=replace(config.rebalance, target_size=6, levels=[3, 2]),
    )

    def build(config: BuildConfig) -> dict[str, int]:
        assert build_lvd(config, out)
        shutil.rmtree(out)
        return count_artifacts(tmp_path / "out.work")

    assert set(build(config).values()) == {1}
    faster = replace(config, embed=replace(config.embed, precision="bf16"))
    assert build(faster) == dict.fromkeys(count_artifacts(tmp_path / "out.work"), 2) | {"screen": 1}
    monkeypatch.setattr(deduplicate, "VERSION", deduplicate.VERSION + 1)
    renewed = build(faster)
    assert (renewed["embed"], renewed["deduplicate"], renewed["decontaminate"]) == (2, 3, 3)


class Stop(BaseException):
    """Stands for a kill: nothing in the code may catch it."""


def test_stopped_at_any_rename_it_goes_on_to_the_same_bytes(
    config: BuildConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    assert build_lvd(config, tmp_path / "whole/out")
    expected = read_tree(tmp_path / "whole/out")
    real = {name: getattr(os, name) for name in ("replace", "rename")}

    def stop_at(number: int) -> None:
        count = itertools.count()

        def rename(name: str, *paths: Any) -> None:
            if next(count) == number:
                raise Stop
            real[name](*paths)

        for name in real:
            monkeypatch.setattr(artifacts.os, name, partial(rename, name))

    for number in itertools.count():
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        stop_at(number)
        try:
            build_lvd(config, out)
            break
        except Stop:
            assert not out.exists()
        monkeypatch.undo()
        assert build_lvd(config, out)
        assert read_tree(out) == expected
    assert number >= 15


KILLED_RUN = """
import os, signal, sys
from lvd_curate.cli import main
real = os.rename
def rename(draft, path):
    if "screen-" in str(path):
        os.kill(os.getpid(), signal.SIGKILL)
    real(draft, path)
if __name__ == "__main__":
    os.rename = rename
    main()
"""


@pytest.mark.slow
def test_killed_for_real_and_with_other_workers_the_bytes_are_the_same(
    config: BuildConfig, world_sets: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "killed.py").write_text(KILLED_RUN)
    sets = [f"--{role}={name}={place}" for role, places in world_sets.items() for name, place in places.items()]
    knobs = [f"embed.encoder={config.embed.encoder}", "retrieve.neighbours=1", "execution.device=cpu"]
    command = ["build-lvd", *sets, "--out", str(tmp_path / "out"), *knobs]

    script = [sys.executable, str(tmp_path / "killed.py"), *command, "execution.workers=1"]
    assert subprocess.run(script, capture_output=True, check=False).returncode == -signal.SIGKILL
    assert [path.name.partition("-")[0] for path in (tmp_path / "out.work").glob("*.partial")] == ["screen"]
    finished = subprocess.run(
        [sys.executable, "-m", "lvd_curate", *command, "execution.workers=2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert build_lvd(config, tmp_path / "inline")
    assert read_tree(tmp_path / "out") == read_tree(tmp_path / "inline")
