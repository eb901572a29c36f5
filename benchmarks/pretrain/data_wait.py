"""How long training waits for images: `pretrain` itself on rendered photographs, with its own loader.

    python -m benchmarks.pretrain.data_wait --recipe vitl16_short --workers 16 --steps 60 [key=value ...]

The first half of the lines is left out: workers start and kernels are compiled there. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean

from benchmarks.photographs import render_folder

LOGGED_EVERY = 5


def main() -> None:
    """Render, train, read what the run says of itself."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--recipe", default="vitl16_short")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--images", type=int, default=512, help="files of 500x375, read again and again")
    given, words = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        images, run = render_folder(Path(folder, "images"), given.images), Path(folder, "run")
        settings = {
            "data.path": images,
            "data.workers": given.workers,
            "out": run,
            "trackers": "[]",
            "optim.steps": given.steps,
            "optim.warmup": 1,
            "log_every": LOGGED_EVERY,
        }
        command = [sys.executable, "-m", "lvd_pretrain", given.recipe, *(f"{k}={v}" for k, v in settings.items())]
        done = subprocess.run([*command, *words], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr[-3000:])
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steady = lines[len(lines) // 2 :]
    figures = {name: mean(line[name] for line in steady) for name in ("data_wait", "images_per_second", "memory_gib")}
    print(json.dumps({**figures, "workers": given.workers, "steps": len(steady) * LOGGED_EVERY}), flush=True)


if __name__ == "__main__":
    main()
