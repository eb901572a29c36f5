import os
import subprocess
import sys

import pytest


def run(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "lvd_pretrain", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_help_is_there_without_loading_torch():
    result = run("--help")
    assert result.returncode == 0
    assert "[RECIPE|KEY=VALUE]..." in result.stdout
    check = "import sys, lvd_pretrain.cli; sys.exit('torch' in sys.modules or 'accelerate' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no recipe"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["optim.stepz=3"], "optim.steps"),
        (["data.path=nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(words, said, tmp_path):
    result = run(*words, *([f"out={tmp_path / 'run'}"] if words else []))
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.stderr


def test_a_launch_that_would_train_copies_is_refused(images, tmp_path):
    result = run(f"data.path={images}", f"out={tmp_path / 'run'}", ACCELERATE_USE_FSDP="true")
    assert result.returncode == 2
    assert "FSDP" in result.stderr
    result = run(f"data.path={images}", f"out={tmp_path / 'run'}", WORLD_SIZE="2")
    assert result.returncode == 2
    assert "each would train alone" in result.stderr


def test_an_error_of_a_data_worker_is_one_line_too(tmp_path):
    for index in range(8):
        (tmp_path / f"{index}.jpg").write_bytes(b"not an image")
    small = [
        "model.width=32",
        "model.depth=1",
        "model.heads=1",
        "optim.batch_size=4",
        "optim.steps=20",
        "optim.warmup=2",
    ]
    heads = [
        "dino_head={prototypes: 8, hidden: 8, bottleneck: 8}",
        "ibot_head={prototypes: 8, hidden: 8, bottleneck: 8}",
    ]
    result = run(f"data.path={tmp_path}", f"out={tmp_path / 'run'}", "data.workers=1", *small, *heads)
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1].startswith("pretrain: error: data.path=")
    assert "Traceback" not in result.stderr
