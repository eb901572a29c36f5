"""Losses over prototypes, dense against tile by tile: time of targets, loss and gradients, and peak memory.

`python -m benchmarks.pretrain.fused_losses` (`--rows --prototypes --width` for other shapes)

Shapes are the patch term's of ViT-S/14 with 24 images per process and the long recipes' 131,072 prototypes: 2,000
masked patches in a bottleneck of 256. Each form runs in a process of its own, in turn, with the same loss and the same
gradients. Memory is what targets, loss and backward pass held at most beyond features and prototypes; the prototypes'
gradient, which no form can do without, is in it.
"""

from __future__ import annotations

import argparse
import json
import sys

import torch
import torch.nn.functional as F
from benchmarks.turns import Meter, Target, best, in_turn, record

from lvd_pretrain.losses import ibot_loss
from lvd_pretrain.scores import Scores
from lvd_pretrain.sinkhorn import factored_sinkhorn_knopp, sinkhorn_knopp

MEMORY_SHARE = 1 / 5  # issue 6: head and loss memory of ViT-S cut to a fifth at 131,072 prototypes


def step(form: str, rows: int, prototypes: int, width: int) -> dict[str, float]:
    """One step of the patch term: Sinkhorn-Knopp targets, cross-entropy, gradients."""
    torch.manual_seed(0)
    teacher, student = (F.normalize(torch.randn(rows, width), dim=-1) for _ in range(2))
    weight = F.normalize(torch.randn(prototypes, width), dim=-1)
    features, own = student.requires_grad_(), weight.clone().requires_grad_()
    weights = torch.full((rows,), 1 / rows)
    with Meter() as meter:
        if form == "dense":
            loss = ibot_loss(sinkhorn_knopp(teacher @ weight.T, 0.05, 3), F.linear(features, own), weights, 1, 0.1)
        else:
            targets = factored_sinkhorn_knopp(Scores(teacher, weight), 0.05, 3)
            loss = ibot_loss(targets, Scores(features, own), weights, 1, 0.1)
        loss.backward()
    assert own.grad is not None, "the prototypes are trained"
    return {**meter.figures, "loss": loss.item(), "norm": own.grad.norm().item()}


def main() -> None:
    """Both forms in turn, or one of them where it is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("form", nargs="?", choices=("dense", "fused"))
    for name, default in (("rows", 2000), ("prototypes", 131072), ("width", 256), ("rounds", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    shape = {name: getattr(asked, name) for name in ("rows", "prototypes", "width")}
    if asked.form:
        print(json.dumps(step(asked.form, **shape)))
        return
    words = [f"--{name}={value}" for name, value in shape.items()]
    command = [sys.executable, "-m", "benchmarks.pretrain.fused_losses"]
    runs = in_turn({form: [*command, form, *words] for form in ("dense", "fused")}, asked.rounds)
    dense, fused = best(runs["dense"]), best(runs["fused"])
    for key in ("loss", "norm"):
        assert abs(fused[key] / dense[key] - 1) < 1e-5, f"{key} differs: {dense} and {fused}"
    ratios = {
        "share_of_memory": fused["peak_mib"] / dense["peak_mib"],
        "times_as_fast": dense["seconds"] / fused["seconds"],
    }
    print(f"fused beside dense: {ratios}")
    targets = [Target("fused: share of the dense losses' memory", ratios["share_of_memory"], MEMORY_SHARE, "at most")]
    figures = {**shape, "dense": dense, "fused": fused, **ratios}
    record("pretrain/fused_losses", figures, targets, ["torch", "lvd-pretrain"])


if __name__ == "__main__":
    main()
