"""Two processes give the numbers of one, with counts that two does not divide."""

import os
import socket
import subprocess
import sys

import pytest

from lvd_evaluate.scoring.results import load_rows

MEASURED = ("model", "probe", "task", "setting", "metric", "value", "ci_low", "ci_high", "n_train", "n_test", "notes")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _evaluate(processes: int, words: list[str]) -> subprocess.CompletedProcess:
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", f"--master_port={_free_port()}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [*launch, "-m", "lvd_evaluate", *words], capture_output=True, text=True, timeout=300, env=environment
    )


def _measured(out):
    return [{key: getattr(row, key) for key in MEASURED} for row in load_rows(out / "results.jsonl")]


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(run_folder, corpus, tmp_path):
    recipe = tmp_path / "all.yaml"
    recipe.write_text(f"""
ckpt: {run_folder}
baselines: [pixels:8]
bootstrap: 300
features: {{shard_size: 7, batch_size: 4}}
linear: {{min_steps: 30, epochs: 0, batch_size: 16}}
tasks:
  colours: {{data: {corpus}, probes: [knn, linear]}}
""")
    outs = {processes: tmp_path / f"{processes}" for processes in (1, 2)}
    for processes, out in outs.items():
        done = _evaluate(processes, ["benchmark", str(recipe), "--out", str(out)])
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("| tiny |") == 1
    assert _measured(outs[2]) == _measured(outs[1])
