"""Losses over prototypes, dense against tile by tile: time of targets, loss and gradients, and peak memory.

`python benchmarks/pretrain/fused_losses.py [ROWS] [PROTOTYPES] [WIDTH]`

Each form runs in a process of its own, in turn (dense, fused, dense, fused), on one thread. Peak memory is the growth
of the process's peak resident size over what stood before; the prototypes' gradients are in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from lvd_pretrain.losses import ibot_loss
from lvd_pretrain.scores import Scores
from lvd_pretrain.sinkhorn import factored_sinkhorn_knopp, sinkhorn_knopp


def peak() -> float:
    """MiB this process held at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def step(form: str, rows: int, prototypes: int, width: int) -> dict[str, float]:
    """One step of the patch term: Sinkhorn-Knopp targets, cross-entropy, gradients."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    teacher, student = (F.normalize(torch.randn(rows, width), dim=-1) for _ in range(2))
    weight = F.normalize(torch.randn(prototypes, width), dim=-1)
    leaves = student.requires_grad_(), weight.clone().requires_grad_()
    weights = torch.full((rows,), 1 / rows)
    before = peak()
    began = time.process_time()
    if form == "dense":
        targets = sinkhorn_knopp(teacher @ weight.T, 0.05, 3)
        loss = ibot_loss(targets, F.linear(*leaves), weights, 1, 0.1)
    else:
        loss = ibot_loss(factored_sinkhorn_knopp(Scores(teacher, weight), 0.05, 3), Scores(*leaves), weights, 1, 0.1)
    loss.backward()
    seconds = time.process_time() - began
    return {
        "cpu_seconds": seconds,
        "peak_mib": peak() - before,
        "loss": float(loss),
        "norm": float(leaves[1].grad.norm()),
    }


def main(rows: int = 1024, prototypes: int = 65536, width: int = 256) -> None:
    """Print both forms' best of two and their ratio."""
    shape = [str(rows), str(prototypes), str(width)]
    runs: dict[str, list[dict[str, float]]] = {"dense": [], "fused": []}
    for _ in range(2):
        for form, results in runs.items():
            output = subprocess.run(
                [sys.executable, __file__, form, *shape], check=True, capture_output=True, text=True
            )
            results.append(json.loads(output.stdout))
    best = {form: {key: min(run[key] for run in results) for key in results[0]} for form, results in runs.items()}
    for key in ("loss", "norm"):
        assert abs(best["fused"][key] / best["dense"][key] - 1) < 1e-5, f"{key} differs: {best}"
    ratios = {key: best["fused"][key] / best["dense"][key] for key in ("cpu_seconds", "peak_mib")}
    print(
        json.dumps({"rows": rows, "prototypes": prototypes, "width": width, **best, "fused / dense": ratios}, indent=1)
    )


if __name__ == "__main__":
    if sys.argv[1:2] in (["dense"], ["fused"]):
        print(json.dumps(step(sys.argv[1], *map(int, sys.argv[2:]))))
    else:
        main(*map(int, sys.argv[1:]))
