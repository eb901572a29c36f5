"""The training step on one GPU beside its peers: rate, use of the matrix units, memory, shares of the parts, data wait.

    python -m benchmarks.pretrain.gpu_step --models L16 S14
    python -m benchmarks.pretrain.gpu_step --models B14 L14 G14 --without parts eager_sdpa data
    python -m benchmarks.pretrain.gpu_step --dry-run

The first two are meant for ten minutes of an H200 each; the third runs every contestant at tiny sizes on a CPU.
Contestants take turns, each in a process of its own, on the batch per GPU, stochastic depth and prototypes of the
recipes, bf16; steps see images that lie on the device already. One that runs out of memory, or fails, is written down
as such. `ours` is compiled, `eager` is not, `parts` is eager with a mark at every border.

lightly-train runs in --lightly PYTHON, by default .peers/lightly-train/bin/python. On a machine without network, carry
its packages as wheels (`pip download --requirement benchmarks/peers/lightly-train.txt`, less torch and torchvision),
install them into a folder with `pip install --no-index --no-deps --target`, name the folder in PYTHONPATH and give
--lightly python3; or leave it out: --without lightly_train. Our own packages need no more than
PYTHONPATH=packages/pretrain/src and what that machine lacks of accelerate, omegaconf, antlr4-python3-runtime, typer and
rich: pure Python, so the folders of any environment will do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from benchmarks.pretrain.step_work import StepWork
from benchmarks.turns import Target, best, in_turn, peer_python, record

STEPS = 20
MODELS = {  # batch per GPU, stochastic depth, crops and prototypes as in the recipes
    "S14": StepWork(arch="vit_small", batch=64, drop_path=0.1),
    "B14": StepWork(arch="vit_base", batch=64, drop_path=0.2),
    "L14": StepWork(arch="vit_large", batch=32, drop_path=0.4, prototypes=131072),
    "L16": StepWork(arch="vit_large", batch=64, drop_path=0.3, patch_size=16, local_size=96),
    "G14": StepWork(arch="vit_giant2", batch=12, drop_path=0.4, prototypes=131072),
}
TINY = StepWork(batch=2, global_size=56, local_size=28, local_number=2, prototypes=512, precision="bf16", steps=1)
CONTESTANTS = ("ours", "eager", "eager_sdpa", "eager_varlen", "parts", "plain", "lightly_train")
PACKAGES = ("torch", "triton", "xformers", "accelerate", "lightly-train")
DATA = {"recipe": "vitl16_short", "workers": "16", "steps": "60"}
TINY_DATA = {"recipe": "tiny", "workers": "1", "steps": "20", "images": "64"}


def main() -> None:
    """Measure what was asked for; exit code 1 if a contestant failed other than for memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--without", nargs="+", choices=[*CONTESTANTS, "data"], default=[])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--lightly", help="interpreter that has lightly-train")
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    works = {"tiny": TINY} if given.dry_run else {name: on_gpu(MODELS[name]) for name in given.models}
    failed = False
    for name, work in works.items():
        commands = contestants(work, given.lightly, given.without)
        runs = [{who: measure(who, command) for who, command in commands.items()} for _ in range(given.rounds)]
        figures = {who: least([each[who] for each in runs]) for who in commands}
        failed |= any("failed" in each for each in figures.values())
        write(name, work, figures)
        check_same_work(figures)
    if "data" not in given.without:
        failed |= "failed" in wait_for_data(given.dry_run)
    sys.exit(failed)


def on_gpu(work: StepWork) -> StepWork:
    """The work as a GPU is given it."""
    return replace(work, precision="bf16", device="cuda", steps=STEPS)


def wait_for_data(dry_run: bool) -> dict[str, Any]:
    """The share of time that `pretrain` itself waits for its loader."""
    words = [word for key, value in (TINY_DATA if dry_run else DATA).items() for word in (f"--{key}", value)]
    settings = ["optim.batch_size=4"] if dry_run else ["model.compile=true"]
    waited = measure("data", [sys.executable, "-m", "benchmarks.pretrain.data_wait", *words, *settings])
    targets = []
    if not dry_run and "data_wait" in waited:
        targets.append(Target("L16: share of the step spent waiting for data", waited["data_wait"], 0.03, "at most"))
    record("pretrain/gpu_step", {"model": "tiny, read" if dry_run else "L16, read", **waited}, targets, PACKAGES)
    return waited


def contestants(work: StepWork, lightly: str | None, without: Sequence[str]) -> dict[str, list[str]]:
    """Commands by name; `ours` is compiled, but for a dry run: on a CPU that takes minutes."""
    on_gpu, words = work.device == "cuda", work.words()
    ours = [sys.executable, "-m", "benchmarks.pretrain.device_step", *words]
    commands = {
        "ours": [*ours, "--compile"] if on_gpu else ours,
        "plain": [sys.executable, "-m", "benchmarks.pretrain.plain_step", *words],
        "eager": ours,
        "eager_sdpa": [*ours, "--attention", "sdpa"],
        "parts": [*ours, "--parts"],
    }
    if on_gpu and find_spec("xformers"):  # which `auto` takes where it is installed, and varlen where not
        commands["eager_varlen"] = [*ours, "--attention", "varlen"]
    if "lightly_train" not in without:
        python = lightly or str(peer_python("lightly-train"))
        commands["lightly_train"] = [python, "-m", "benchmarks.peers.lightly_step", *words]
    return {name: command for name, command in commands.items() if name not in without}


def measure(name: str, command: Sequence[str]) -> dict[str, Any]:
    """A contestant's figures, or why there are none."""
    try:
        return in_turn({name: command}, rounds=1)[name][0]
    except SystemExit as stopped:
        reason = str(stopped)
    if "OutOfMemoryError" in reason or "out of memory" in reason:
        return {"out_of_memory": True}
    print(reason, file=sys.stderr, flush=True)
    return {"failed": reason.strip().splitlines()[-1]}


def least(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The least figures of several rounds, or what went wrong in one; the matrix rate is the highest seen."""
    for run in runs:
        if "seconds" not in run:
            return run
    rates = {"matrix_rate": max(run["matrix_rate"] for run in runs)} if "matrix_rate" in runs[0] else {}
    return {**runs[0], **best(runs), **rates}


def write(name: str, work: StepWork, figures: Mapping[str, dict[str, Any]]) -> None:
    """Rates and shares of one model, its targets, one JSON line."""
    for each in figures.values():
        if "seconds" in each:
            each["images_per_second"] = work.batch / each["seconds"]
    for each in (each for who, each in figures.items() if "flops" in each):
        each["utilisation"] = each["flops"] / each["seconds"] / each["matrix_rate"]
    measured = name != "tiny"
    targets = compare(name, figures) if measured else []
    record("pretrain/gpu_step", {"model": name, **work.__dict__, "contestants": figures}, targets, PACKAGES)


def compare(name: str, figures: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """The issue's targets, as far as both sides have figures."""
    ours, plain, lightly = (figures.get(who, {}) for who in ("ours", "plain", "lightly_train"))
    targets = []
    if name == "L16" and "seconds" in ours:
        targets.append(Target("L16: share of the measured matrix rate", ours["utilisation"], 0.5))
    for who, peer, rate in (("plain oracle", plain, 2.0), ("lightly-train", lightly, 1.5)):
        if "seconds" in ours and "seconds" in peer:
            targets.append(Target(f"{name}: rate, times {who}", peer["seconds"] / ours["seconds"], rate))
            if who == "plain oracle":
                memory = ours["peak_mib"] / peer["peak_mib"]
                targets.append(Target(f"{name}: peak memory, share of the {who}'s", memory, 0.5, "at most"))
    return targets


def check_same_work(figures: Mapping[str, Mapping[str, Any]]) -> None:
    """Every contestant saw as many tokens, and the oracle, from the same weights, about the same loss."""
    timed = {who: each for who, each in figures.items() if "seconds" in each}
    assert len({each["tokens"] for each in timed.values()}) <= 1, "contestants saw other tokens"
    if "ours" in timed and "plain" in timed:  # not quite: each drops its own samples
        ours, plain = (timed[who] for who in ("ours", "plain"))
        assert ours["parameters"] == plain["parameters"]
        assert abs(ours["first_loss"] / plain["first_loss"] - 1) < 0.05, "ours and the oracle have other losses"


if __name__ == "__main__":
    main()
