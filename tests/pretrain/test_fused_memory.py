"""Peak memory of the heads' losses does not grow with the number of prototypes, but for the prototypes themselves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lvd_pretrain.losses import ibot_loss
from lvd_pretrain.scores import Scores
from lvd_pretrain.sinkhorn import factored_sinkhorn_knopp, sinkhorn_knopp

ROWS, WIDTH = 256, 16
MATRIX = ROWS * 65536 * 4 / 2**20  # MiB of one float32 matrix of 65,536 prototypes


def step(form: str, prototypes: int) -> None:
    """Targets, loss and gradients of masked patches."""
    teacher, student = (F.normalize(torch.randn(ROWS, WIDTH), dim=-1) for _ in range(2))
    weight = F.normalize(torch.randn(prototypes, WIDTH), dim=-1)
    leaves, weights = (student.requires_grad_(), weight.clone().requires_grad_()), torch.ones(ROWS)
    if form == "dense":
        ibot_loss(sinkhorn_knopp(teacher @ weight.T, 0.05, 3), F.linear(*leaves), weights, 1, 0.1).backward()
    else:
        ibot_loss(
            factored_sinkhorn_knopp(Scores(teacher, weight), 0.05, 3), Scores(*leaves), weights, 1, 0.1
        ).backward()


def peak() -> float:
    """MiB this process held at most (ru_maxrss would begin at what the test's process held)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def growth(form: str) -> float:
    """MiB by which 65,536 prototypes raise a process's peak over 8,192."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back to the system at once
    command = [sys.executable, __file__, form]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120)
    return float(output.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_no_matrix_of_tokens_by_prototypes_is_stored():
    assert growth("dense") > 2 * MATRIX  # the measure sees one
    assert growth("fused") < MATRIX / 2


if __name__ == "__main__":
    torch.set_num_threads(1)
    step(sys.argv[1], 8192)
    before = peak()
    step(sys.argv[1], 65536)
    print(peak() - before)
