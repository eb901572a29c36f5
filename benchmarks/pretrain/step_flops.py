"""How much arithmetic a training step asks for: what utilisation divides by the measured matrix rate.

    python -m benchmarks.pretrain.step_flops vitl16_short optim.batch_size=64

The count is `lvd_pretrain.flops`.
"""

from __future__ import annotations

import sys

from lvd_pretrain.flops import step_flops
from lvd_pretrain.recipes import build_config, find_recipe


def main() -> None:
    """Print the count of a recipe."""
    recipe, *words = sys.argv[1:]
    parts = step_flops(build_config(find_recipe(recipe), words))
    for name, flops in {**parts, "step": sum(parts.values())}.items():
        print(f"{name:8} {flops / 1e12:8.2f} TFLOP")


if __name__ == "__main__":
    main()
