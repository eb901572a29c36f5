"""End to end: a run, a killed and resumed run, a run of two processes, and the literal launch command."""

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
from safetensors.torch import load_file

from lvd_pretrain.errors import InputError
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


def test_killed_and_resumed_equals_uninterrupted_to_the_last_digit(tiny, tmp_path):
    options = ("optim.steps=20", "save.every=5", "model.drop_path=0.3", "teacher.centering=ema", "precision=bf16")
    straight = pretrain(tiny(*options, f"out={tmp_path / 'straight'}"))
    config = tiny(*options, f"out={tmp_path / 'killed'}")
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
    resumed = pretrain(config)
    assert losses(resumed) == losses(straight)
    one, other = (load_file(run / "model/model.safetensors") for run in (straight, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


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
def test_two_processes_train_the_model_of_one(tiny, tmp_path):
    """Two ranks of two images: same data as one process of four; same losses where nothing is rank-local."""
    common = ("optim.steps=4", "save.every=2", "model.drop_path=0.0", "loss.koleo=0", "masks.probability=0.5")
    alone = pretrain(tiny(*common, "optim.batch_size=4", "loss.ibot=0", f"out={tmp_path / 'alone'}"))
    config = tiny(*common, "optim.batch_size=2", "loss.ibot=0", f"out={tmp_path / 'pair'}")
    asked = ("--multi_gpu", "--num_processes", "2", "--mixed_precision", "no")
    result = launch(*asked, "pretrain", *words(config), ACCELERATE_USE_CPU="true")
    assert result.returncode == 0, result.stderr
    for one, two in zip(losses(alone), losses(Path(config.out)), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
    one, two = (load_file(Path(run) / "model/model.safetensors") for run in (alone, config.out))
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)


@pytest.mark.slow
def test_the_literal_command_and_the_module_form_run(tiny, tmp_path):
    for form in (["pretrain"], ["-m", "lvd_pretrain"]):
        config = tiny("optim.steps=1", f"out={tmp_path / form[-1]}")
        result = launch("--num_processes", "1", *form, *words(config))
        assert result.returncode == 0, result.stderr
        assert (tmp_path / form[-1] / "model/model.safetensors").is_file()
