"""Two processes, sharded or not, train the model of one, through signals and kills; checkpoints open on any number."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from omegaconf import OmegaConf
from safetensors.torch import load_file

from lvd_pretrain.checkpoint import newest_checkpoint, read_state
from lvd_pretrain.train import pretrain

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "packages/pretrain/launch"
# Nothing in it is a matter of one rank: KoLeo's neighbours and the samples a branch skips are each rank's own.
STEPS = 60
COMMON = (
    f"optim.steps={STEPS}",
    "save.every=5",
    "save.keep=99",
    "model.drop_path=0.0",
    "loss.koleo=0",
    "optim.base_lr=0.01",
)
# All of torch.compile but g++, which takes minutes for the pieces between FSDP's hooks.
WITHOUT_MACHINE_CODE = """
import functools, torch
torch.compile = functools.partial(torch.compile, backend="aot_eager")
from lvd_pretrain.cli import main
main()
"""


def start(config, sharded: bool, folder: Path) -> list[subprocess.Popen]:
    """Two ranks as a launcher would start them."""
    program = ["-c", WITHOUT_MACHINE_CODE] if config.model.compile else ["-m", "lvd_pretrain"]
    recipe = folder / f"{Path(config.out).name}.yaml"
    OmegaConf.save(OmegaConf.create(config.to_dict()), recipe)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    if sharded:
        common |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    return [
        subprocess.Popen(
            [sys.executable, *program, str(recipe)],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def launch(config, folder: Path, *words: str, program: tuple[str, ...]) -> subprocess.Popen:
    """Two ranks under `accelerate launch`, as a user starts them."""
    recipe = folder / f"{Path(config.out).name}.yaml"
    OmegaConf.save(OmegaConf.create(config.to_dict()), recipe)
    accelerate = str(Path(sys.executable).with_name("accelerate"))
    return subprocess.Popen(
        [accelerate, "launch", *words, "--num_processes", "2", "--main_process_port", "0", *program, str(recipe)],
        cwd=ROOT,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(ranks: list[subprocess.Popen]) -> list[str]:
    """What the ranks said; all must have ended well."""
    said = [rank.communicate(timeout=600)[1] for rank in ranks]
    assert not any(rank.returncode for rank in ranks), said
    return said


def wait_for(step: int, out: str | Path, process: subprocess.Popen) -> None:
    """Return as soon as a run has logged a step."""
    path, deadline = Path(out) / "metrics.jsonl", time.monotonic() + 600
    while not (path.exists() and f'"step": {step},' in path.read_text()):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def lines(out: str | Path) -> list[dict[str, float]]:
    """Losses and gradient norms by step; a line that a kill cut short is left out."""
    whole = (Path(out) / "metrics.jsonl").read_text().rpartition("\n")[0].splitlines()
    terms = ("step", "loss", "dino_global", "dino_local", "ibot", "koleo")
    return [
        {key: value for key, value in json.loads(line).items() if key in terms or key.startswith("gradient_norm")}
        for line in whole
    ]


def assert_same_run(out: str | Path, other: str | Path, tolerance: float) -> None:
    """Losses, gradient norms and the model of both."""
    for line, another in zip(lines(out), lines(other), strict=True):
        assert line == pytest.approx(another, rel=tolerance, abs=tolerance)
    for name in ("model.safetensors", "heads.safetensors"):
        weights, theirs = (load_file(Path(run) / "model" / name) for run in (out, other))
        assert weights.keys() == theirs.keys()
        for key, tensor in weights.items():
            assert torch.allclose(tensor, theirs[key], rtol=0, atol=tolerance), key


def rewind(out: str | Path, target: Path, step: int) -> None:
    """A copy of a run as it was after its save at a step."""
    shutil.copytree(out, target, symlinks=True)
    for checkpoint in (target / "checkpoints").iterdir():
        if int(checkpoint.name.removeprefix("step_")) > step:
            shutil.rmtree(checkpoint)
    metrics = (target / "metrics.jsonl").read_text().splitlines(keepends=True)
    (target / "metrics.jsonl").write_text("".join(metrics[:step]))


@pytest.fixture(scope="module")
def alone(tiny_at, tmp_path_factory):
    """The straight run of one process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return pretrain(tiny_at(tmp_path_factory.mktemp("straight") / "alone", *COMMON, "optim.batch_size=4"))


def test_two_processes_by_the_literal_command_train_the_model_of_one(alone, tiny, tmp_path):
    config = tiny(*COMMON, "optim.batch_size=2", f"out={tmp_path / 'ddp'}")
    finish([launch(config, tmp_path, "--multi_gpu", "--mixed_precision", "no", program=("pretrain",))])
    assert_same_run(config.out, alone, 1e-4)

    # Its checkpoint goes on by one process.
    rewind(config.out, tmp_path / "one", STEPS - 5)
    assert_same_run(pretrain(tiny(*COMMON, "optim.batch_size=4", f"out={tmp_path / 'one'}")), alone, 1e-4)


def test_sharded_ranks_go_on_after_a_signal_and_after_a_kill_as_if_nothing_had_been(alone, tiny, tmp_path):
    out = tmp_path / "fsdp"
    rewind(alone, out, 5)  # one process began, two sharded ones go on
    config = tiny(*COMMON, "optim.batch_size=2", f"out={out}")
    asked = ("--config_file", str(LAUNCH / "8gpu.yaml"))

    # SIGTERM to the launcher: it is passed on, and the step that is under way is saved once.
    launcher = launch(config, tmp_path, *asked, program=("-m", "lvd_pretrain"))
    wait_for(12, out, launcher)
    launcher.send_signal(signal.SIGTERM)
    said = launcher.communicate(timeout=600)[1]
    stopped = newest_checkpoint(out / "checkpoints")
    step = read_state(stopped)["step"]
    assert f"stopped by SIGTERM: step {step} is saved" in said
    assert 12 <= step == len(lines(out)) < STEPS
    assert read_state(stopped)["global_batch"] == 4
    assert sorted(path.name for path in (out / "checkpoints").iterdir())[-1] == stopped.name
    before_signal = lines(out)

    # kill -9 to one rank: the other does not wait for it for ever.
    ranks = start(config, True, tmp_path)
    wait_for(step + 7, out, ranks[0])
    ranks[1].kill()
    said = [rank.communicate(timeout=600)[1] for rank in ranks]
    assert f"going on from {stopped}" in said[0]
    assert ranks[1].returncode == -signal.SIGKILL
    assert ranks[0].returncode != 0
    before_kill = lines(out)
    saved = read_state(newest_checkpoint(out / "checkpoints"))["step"]
    assert before_kill[: len(before_signal)] == before_signal
    assert step < saved <= len(before_kill) < STEPS

    # To its end: steps done twice came out the same to the last digit, and all are those of the straight run.
    finish(start(config, True, tmp_path))
    assert lines(out)[: len(before_kill)] == before_kill
    assert_same_run(out, alone, 1e-4)

    # What two sharded ranks saved goes on by one process.
    rewind(out, tmp_path / "one", STEPS - 5)
    assert_same_run(pretrain(tiny(*COMMON, "optim.batch_size=4", f"out={tmp_path / 'one'}")), alone, 1e-4)


def test_two_sharded_ranks_in_bf16_with_every_option_equal_ddp(tiny, tmp_path):
    """KoLeo and stochastic depth are each rank's own, and the same however weights are kept."""
    options = ("optim.steps=3", "precision=bf16", "model.drop_path=0.3", "teacher.centering=ema", "optim.batch_size=4")
    every = ("optim.activation_checkpointing=true", "model.compile=true")
    sharded = tiny(*options, *every, f"out={tmp_path / 'sharded'}")
    whole = tiny(*options, f"out={tmp_path / 'whole'}")
    finish(start(sharded, True, tmp_path))
    finish(start(whole, False, tmp_path))
    assert_same_run(sharded.out, whole.out, 1e-2)
