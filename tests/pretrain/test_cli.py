import subprocess
import sys
import time

import pytest


def run(*words, **environment):
    import os

    return subprocess.run(
        [sys.executable, "-m", "lvd_pretrain", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_help_is_there_before_torch_would_be():
    began = time.monotonic()
    result = run("--help")
    assert result.returncode == 0
    assert "RECIPE.yaml" in result.stdout
    check = "import sys, lvd_pretrain.cli; sys.exit('torch' in sys.modules or 'accelerate' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no recipe"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["optim.stepz=3"], "optim.steps"),
        (["data.path=nowhere"], "nowhere"),
        ([], "pretrain"),
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
