"""Two processes, sharded or not, train the model of one; checkpoints open on any number of either."""

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
from omegaconf import OmegaConf
from safetensors.torch import load_file

from lvd_pretrain.checkpoint import newest_checkpoint, read_state
from lvd_pretrain.train import pretrain

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "packages/pretrain/launch"
# Nothing in it is a matter of one rank: KoLeo's neighbours and the samples a branch skips are each rank's own.
COMMON = ("optim.steps=6", "save.every=3", "model.drop_path=0.0", "loss.koleo=0", "optim.base_lr=0.05")


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


def finish(ranks: list[subprocess.Popen]) -> list[str]:
    """What the ranks said; both must have ended well."""
    said = [rank.communicate(timeout=240)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    return said


def lines(out: str | Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(out: str | Path, other: str | Path, tolerance: float) -> None:
    """Losses, gradient norms and the model of both."""
    steps, others = lines(out), lines(other)
    assert [line["step"] for line in steps] == [line["step"] for line in others]
    for line, another in zip(steps, others, strict=True):
        for key in line:
            if key in ("loss", "dino_global", "dino_local", "ibot", "koleo") or key.startswith("gradient_norm"):
                assert line[key] == pytest.approx(another[key], rel=tolerance, abs=tolerance), (line["step"], key)
    for name in ("model.safetensors", "heads.safetensors"):
        weights, theirs = (load_file(Path(run) / "model" / name) for run in (out, other))
        assert weights.keys() == theirs.keys()
        for key, tensor in weights.items():
            assert torch.allclose(tensor, theirs[key], rtol=0, atol=tolerance), key


def rewind(out: str | Path, target: Path) -> None:
    """The run as it was when killed between its first save and its last."""
    shutil.copytree(out, target, symlinks=True)
    shutil.rmtree(target / "checkpoints/step_00000006")


def test_one_process_ddp_and_fsdp2_are_one_run(tiny, tmp_path):
    alone = tiny(*COMMON, "optim.batch_size=4", f"out={tmp_path / 'alone'}")
    pretrain(alone)
    ddp = tiny(*COMMON, "optim.batch_size=2", f"out={tmp_path / 'ddp'}")
    finish(start(ddp, False, tmp_path))
    assert_same_run(ddp.out, alone.out, 1e-4)

    # The same by the launcher, from the configuration that is shipped.
    fsdp = tiny(*COMMON, "optim.batch_size=2", f"out={tmp_path / 'fsdp'}")
    recipe = tmp_path / "fsdp.yaml"
    OmegaConf.save(OmegaConf.create(fsdp.to_dict()), recipe)
    command = ["launch", "--config_file", str(LAUNCH / "8gpu.yaml"), "--num_processes", "2", "--main_process_port", "0"]
    result = subprocess.run(
        [str(Path(sys.executable).with_name("accelerate")), *command, "-m", "lvd_pretrain", str(recipe)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert_same_run(fsdp.out, alone.out, 1e-4)

    # Its checkpoint, saved by two ranks, goes on by two to the last digit, and by one; that of one goes on by two.
    for source, batch, ranks, tolerance in (
        (fsdp, 2, 2, 0.0),
        (fsdp, 4, 1, 1e-4),
        (alone, 2, 2, 1e-4),
        (ddp, 4, 1, 1e-4),
    ):
        target = tmp_path / f"{Path(source.out).name}_{ranks}"
        rewind(source.out, target)
        again = tiny(*COMMON, f"optim.batch_size={batch}", f"out={target}")
        if ranks == 2:
            said = finish(start(again, True, tmp_path))
            assert "going on from" in said[0]
        else:
            pretrain(again)
        assert_same_run(target, source.out, tolerance)


def test_two_sharded_ranks_in_bf16_with_every_option_equal_ddp(tiny, tmp_path):
    """KoLeo and stochastic depth are each rank's own, and the same however weights are kept."""
    options = ("optim.steps=3", "precision=bf16", "model.drop_path=0.3", "teacher.centering=ema", "optim.batch_size=4")
    every = ("optim.activation_checkpointing=true", "model.compile=true")
    sharded = tiny(*options, *every, f"out={tmp_path / 'sharded'}")
    whole = tiny(*options, f"out={tmp_path / 'whole'}")
    finish(start(sharded, True, tmp_path))
    finish(start(whole, False, tmp_path))
    assert_same_run(sharded.out, whole.out, 1e-2)


def test_a_signal_to_one_rank_saves_on_all_and_ends_well(tiny, tmp_path):
    config = tiny("optim.steps=2000", "save.every=2000", "optim.batch_size=2", "data.workers=1")
    ranks = start(config, True, tmp_path)
    deadline = time.monotonic() + 200
    metrics = Path(config.out) / "metrics.jsonl"
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        time.sleep(0.05)
    ranks[1].send_signal(signal.SIGTERM)
    said = finish(ranks)
    checkpoint = newest_checkpoint(Path(config.out) / "checkpoints")
    step = read_state(checkpoint)["step"]
    assert f"step {step} is saved" in said[0]
    assert 3 <= step == len(lines(config.out)) < 2000
    assert read_state(checkpoint)["global_batch"] == 4
