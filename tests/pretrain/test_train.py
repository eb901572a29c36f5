"""End to end: a run, a killed, a stopped and a resumed one, and the literal launch command."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from lvd_pretrain.errors import InputError
from lvd_pretrain.monitor import Monitor
from lvd_pretrain.train import pretrain, step_seed

ROOT = Path(__file__).parents[2]


def losses(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if k not in {"images_per_second", "data_wait", "memory_gib"}} for line in lines
    ]


def words(config) -> list[str]:
    from omegaconf import OmegaConf

    path = Path(config.out).parent / "recipe.yaml"
    OmegaConf.save(OmegaConf.create(config.to_dict()), path)
    return [str(path)]


def test_a_run_learns_and_leaves_what_it_promises(tiny):
    config = tiny("optim.steps=30", "optim.base_lr=0.05", "save.every=15", "save.keep=1", "model.drop_path=0.1")
    run = pretrain(config)
    lines = losses(run)
    assert [line["step"] for line in lines] == list(range(1, 31))
    assert lines[0]["loss"] == pytest.approx(sum(lines[0][k] for k in ("dino_global", "dino_local", "ibot", "koleo")))
    assert sum(line["loss"] for line in lines[-5:]) < sum(line["loss"] for line in lines[:5])
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_00000030"]
    assert [path.name for path in sorted((run / "models").iterdir())] == ["step_00000015", "step_00000030"]
    assert (run / "model/config.json").is_file()


EXACT = ("optim.steps=20", "save.every=5", "model.drop_path=0.3", "teacher.centering=ema", "precision=bf16")


@pytest.fixture(scope="module")
def straight(tiny_at, tmp_path_factory):
    """A run without interruption."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return pretrain(tiny_at(tmp_path_factory.mktemp("runs") / "straight", *EXACT))


def assert_equal_runs(run: Path, other: Path) -> None:
    """Every logged number and every weight of the model, to the last digit."""
    assert losses(run) == losses(other)
    one, two = (load_file(folder / "model/model.safetensors") for folder in (run, other))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_killed_and_resumed_equals_uninterrupted_to_the_last_digit(straight, tiny):
    config = tiny(*EXACT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "lvd_pretrain", *words(config)], env=environment, stderr=subprocess.DEVNULL
    )
    metrics = Path(config.out) / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if metrics.exists() and len(metrics.read_text().splitlines()) >= 6:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it was still at work
    assert_equal_runs(pretrain(config), straight)


def test_stopped_by_a_signal_and_resumed_equals_uninterrupted_to_the_last_digit(straight, tiny, monkeypatch, capfd):
    log = Monitor.log

    def log_and_stop(monitor: Monitor, done: int, values: dict[str, float]) -> None:
        log(monitor, done, values)
        if done == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    config = tiny(*EXACT)
    with monkeypatch.context() as patched:
        patched.setattr(Monitor, "log", log_and_stop)
        run = pretrain(config)
    assert "stopped by SIGTERM: step 7 is saved" in capfd.readouterr().err
    assert losses(run) == losses(straight)[:7]
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step_00000005", "step_00000007"]
    assert_equal_runs(pretrain(config), straight)


def test_a_finished_run_started_again_changes_nothing(tiny):
    config = tiny("optim.steps=3")
    before = losses(pretrain(config))
    assert losses(pretrain(config)) == before


def test_a_kill_before_the_last_checkpoint_costs_no_model(tiny):
    config = tiny("optim.steps=2")
    run = pretrain(config)
    for path in (run / "checkpoints").iterdir():  # the model is written before the checkpoint that says so
        shutil.rmtree(path)
    again = pretrain(config)
    assert (again / "model/model.safetensors").is_file()
    assert len(losses(again)) == 2


def test_other_data_or_another_recipe_is_refused(tiny, images, tmp_path):
    pretrain(tiny("optim.steps=2"))
    for word in ("optim.clip=1", "model.depth=3"):
        with pytest.raises(InputError, match=word.split("=")[0]):
            pretrain(tiny("optim.steps=2", word))
    with pytest.raises(InputError, match="other images"):
        pretrain(tiny("optim.steps=2", f"data.path={images / 'part_0'}"))


def test_step_seeds_differ_by_step_and_rank():
    seeds = {step_seed(seed, step, rank) for seed in range(3) for step in range(20) for rank in range(4)}
    assert len(seeds) == 240


def launch(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("accelerate")), "launch", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


@pytest.mark.slow
def test_the_literal_command_runs(tiny):
    config = tiny("optim.steps=1")
    result = launch("--num_processes", "1", "pretrain", *words(config))
    assert result.returncode == 0, result.stderr
    assert (Path(config.out) / "model/model.safetensors").is_file()
