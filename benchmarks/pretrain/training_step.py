"""One training step of ViT-S/14 on a CPU: ours, our plain oracle and LightlyTrain's DINOv2, in turn.

`python -m benchmarks.pretrain.training_step` (all words of step_work.py, such as `--batch 4`, change the work;
`--quick` makes it tiny). 2 x 224 and 8 x 98 pixels, 65,536 prototypes in each head, in float32 and under bf16 autocast.

Equal work is checked, not assumed: where nothing is drawn (no stochastic depth) ours and the oracle's losses are one;
all three see as many tokens and have as many parameters; theirs masks nearly as many patches (each crop anywhere in its
stratum, ours at the upper edge), and its first loss, of other random weights, is of the same size.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from benchmarks.pretrain.step_work import StepWork, parse_work
from benchmarks.turns import Target, best, in_turn, peer_python, record

QUICK = StepWork(batch=2, prototypes=512, global_size=98, local_size=56, local_number=2, steps=1)
SAME = {"tokens": 0.0, "parameters": 0.0, "masked": 0.5, "first_loss": 0.1}  # how far they may be apart, relative
TOLERANCE = {"fp32": 1e-5, "bf16": 1e-2}  # of the loss: bf16 rounds in another order


def check_equal_losses(work: StepWork) -> None:
    """Our step and the oracle's, on a small batch where nothing is random, see the same loss."""
    calm = replace(work, batch=2, drop_path=0.0, steps=1).words()
    runs = in_turn({name: [*command(name), *calm] for name in ("ours", "plain")}, rounds=1)
    ours, plain = (runs[name][0]["first_loss"] for name in ("ours", "plain"))
    assert abs(ours / plain - 1) < TOLERANCE[work.precision], f"losses differ: {ours} and {plain}"


def command(name: str) -> list[object]:
    """What runs a contestant."""
    if name == "lightly":
        return [peer_python("lightly-train"), "-m", "benchmarks.peers.lightly_step"]
    return [sys.executable, "-m", f"benchmarks.pretrain.{'our' if name == 'ours' else 'plain'}_step"]


def compare(work: StepWork, rounds: int) -> tuple[dict[str, dict[str, float]], list[Target]]:
    """Figures of all three in one precision, and the targets of issue 6."""
    check_equal_losses(work)
    names = ("ours", "plain", "lightly")
    runs = in_turn({name: [*command(name), *work.words()] for name in names}, rounds)
    figures = {name: best(runs[name]) for name in names}
    ours = figures["ours"]
    for name in names:
        for fact, tolerance in SAME.items():
            assert abs(figures[name][fact] / ours[fact] - 1) <= tolerance, f"other work ({fact}): {figures}"
    targets = []
    for peer in ("plain", "lightly"):
        theirs, of = figures[peer], f"{work.precision}, ours and {peer}"
        targets.append(Target(f"{of}: times as fast", theirs["seconds"] / ours["seconds"], 1.5))
        targets.append(Target(f"{of}: share of peak memory", ours["peak_mib"] / theirs["peak_mib"], 0.67, "at most"))
    return figures, targets


def main(words: list[str]) -> None:
    """Both precisions, one line of results."""
    quick = "--quick" in words
    rounds = 1 if quick else 2
    asked = parse_work([*(QUICK.words() if quick else []), *(word for word in words if word != "--quick")])
    compared = {precision: compare(replace(asked, precision=precision), rounds) for precision in ("fp32", "bf16")}
    figures = {precision: figures for precision, (figures, _) in compared.items()}
    targets = [target for _, targets in compared.values() for target in targets]
    shapes = {name: getattr(asked, name) for name in ("batch", "prototypes", "global_size", "local_size", "drop_path")}
    record("pretrain/training_step", {**shapes, **figures}, targets, ["torch", "lvd-pretrain"])


if __name__ == "__main__":
    main(sys.argv[1:])
