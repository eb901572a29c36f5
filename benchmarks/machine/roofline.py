"""What this machine can do at most: matrix products in float32 and bf16, and copying; on a GPU too, where there is one.

    python -m benchmarks.machine.roofline [--seconds 1.0]

Notes on missed targets divide by these. Products are square (2,048 on a CPU, 8,192 on a GPU) and of the shape of a
ViT-S MLP (4,096 tokens, 384 by 1,536), where less is reached; a copy counts the bytes it reads and those it writes.
Each figure is the best of all repetitions within `--seconds`, on one thread and on as many as torch takes by itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from benchmarks.turns import record

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
MLP = (4096, 384, 1536)  # rows, width in, width out
COPIED = 1 << 28  # bytes: far more than any cache holds


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure")
    given = parser.parse_args()
    everything = torch.get_num_threads()
    places = {"1 thread": 1, f"{everything} threads": everything} if everything > 1 else {"1 thread": 1}
    figures = {}
    for name, threads in places.items():
        torch.set_num_threads(threads)
        figures[name] = measure(torch.device("cpu"), 2048, given.seconds)
    if torch.cuda.is_available():
        figures[torch.cuda.get_device_name()] = measure(torch.device("cuda"), 8192, given.seconds)
    for name, found in figures.items():
        print(name, *(f"  {what:24}{value:10.1f}" for what, value in found.items()), sep="\n")
    record("machine/roofline", figures, packages=["torch"])


def measure(device: torch.device, side: int, seconds: float) -> dict[str, float]:
    """GFLOP/s of the products and GB/s of a copy on a device."""
    found = {}
    for precision, dtype in PRECISIONS.items():
        for shape, (rows, inner, columns) in {"square": (side, side, side), "mlp": MLP}.items():
            left = torch.randn(rows, inner, device=device, dtype=dtype)
            right = torch.randn(inner, columns, device=device, dtype=dtype)
            out = torch.empty(rows, columns, device=device, dtype=dtype)
            took = least_seconds(partial(torch.mm, left, right, out=out), device, seconds)
            found[f"{precision} {shape}, GFLOP/s"] = 2 * rows * inner * columns / took / 1e9
    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    found["copy, GB/s"] = 2 * COPIED / least_seconds(partial(target.copy_, source), device, seconds) / 1e9
    return found


def least_seconds(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The shortest of all runs that fit into a time; three at least, after one that does not count."""
    work()
    took: list[float] = []
    while len(took) < 3 or sum(took) < seconds:
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        took.append(time.perf_counter() - began)
    return min(took)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
