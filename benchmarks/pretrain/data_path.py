"""Images per second and core, from JPEG files to 2 x 224 + 8 x 98 crops, beside the pipeline that DINOv2 published.

    python -m benchmarks.pretrain.data_path [--images FOLDER_OR_PARQUET] [--quick]

Ours is what a worker of the loader does: read, decode, crop, draw colours and masks, collate; colour, blur and
normalisation follow on the training device, in a batch. A second row runs that part too, on the same core, since on a
machine without a GPU somebody has to. The peer (benchmarks/peers/dinov2_pipeline.py) does all of it in the worker.
First, the same boxes and flips are cut both ways: the crops may differ by a grey level on average, as decoders and
resamplers do. The last rows go through the real loader with one and two workers: what processes side by side, and the
way of a batch from one to the other, leave of it. Without --images, 128 rendered photographs of 500 x 375 pixels.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from benchmarks.photographs import parquet_images, render_folder
from benchmarks.turns import Meter, Target, best, in_turn, record

IMAGES = 128
WANTED = 350  # images per second and core: issue 6
SCALING = 1.8  # of two workers, on two quiet cores
GREY_LEVEL = 1.0  # mean absolute difference of crops


def measure(part: str, folder: Path, batch: int, steps: int, workers: int) -> dict[str, float]:
    """Time `steps` batches: the worker's part, that and the device's, or the loader's with `workers` processes."""
    import torch

    from lvd_pretrain.augment import Photometry
    from lvd_pretrain.data import build_loader
    from lvd_pretrain.recipes import build_config
    from lvd_pretrain.sources import open_images
    from lvd_pretrain.train import views_of

    torch.set_num_threads(1)
    warm = 1 + 2 * workers  # batches that fill the loader
    sizes = ["model.patch_size=14", "crops.local_size=98", f"optim.batch_size={batch}", f"data.workers={workers}"]
    config = build_config(None, [f"data.path={folder}", *sizes, "optim.warmup=1", f"optim.steps={warm + steps}"])
    photometry = Photometry(config.augment, torch.device("cpu"))
    finish = (lambda made: views_of(made, photometry)) if part == "device" else (lambda made: None)
    loader = build_loader(open_images(config.data), config, 0, 0, 1)
    with Meter() as whole:  # memory that the first batch took is kept for those that follow
        batches = iter(loader)
        for made in itertools.islice(batches, warm):
            finish(made)
        with Meter() as meter:
            for made in batches:
                finish(made)
    assert made.global_crops.shape == (2 * batch, 3, 224, 224)
    assert made.local_crops.shape == (8 * batch, 3, 98, 98)
    return {"images": steps * batch, **meter.figures, "peak_mib": whole.figures["peak_mib"]}


def crop_difference(folder: Path, boxes: int = 10) -> float:
    """Mean absolute difference in grey levels between our crops and PIL's, of the same boxes and flips."""
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    from lvd_pretrain.crops import cut, decode, random_box

    rng, differences = np.random.default_rng(0), []
    for file in sorted(folder.iterdir())[:8]:
        data = file.read_bytes()
        ours, theirs = decode(data), Image.open(io.BytesIO(data)).convert("RGB")
        for number in range(boxes):
            size, scale = ((224, (0.32, 1.0)), (98, (0.05, 0.32)))[number % 2]
            box, flip = random_box(ours.shape[-2], ours.shape[-1], scale, rng), number % 3 == 0
            expected = F.resized_crop(theirs, *box, [size, size], InterpolationMode.BICUBIC)
            pixels = np.asarray(F.hflip(expected) if flip else expected, float)
            differences.append(np.abs(cut(ours, box, size, flip).permute(1, 2, 0).numpy() - pixels).mean())
    return float(np.mean(differences))


def compare(folder: Path, batch: int, steps: int, rounds: int) -> None:
    """Run all contestants in turn and record what they did."""
    difference = crop_difference(folder)
    assert difference <= GREY_LEVEL, f"crops differ from PIL's by {difference:.2f} grey levels"
    ours = [sys.executable, "-m", "benchmarks.pretrain.data_path", "--folder", folder, "--batch", batch]
    # Theirs takes far longer for the same number of images, so it is given fewer.
    peer = [sys.executable, "-m", "benchmarks.peers.dinov2_pipeline", folder, "--batch", batch]
    contestants = {
        "ours": [*ours, "--steps", steps, "--part", "worker"],
        "dinov2": [*peer, "--steps", max(1, steps // 6)],
        "ours_with_device_part": [*ours, "--steps", steps, "--part", "device"],
        "loader_1": [*ours, "--steps", steps, "--part", "worker", "--workers", 1],
        "loader_2": [*ours, "--steps", 2 * steps, "--part", "worker", "--workers", 2],
    }
    runs = {name: best(lines) for name, lines in in_turn(contestants, rounds, {"OMP_NUM_THREADS": "1"}).items()}
    by_cpu = {name: run["images"] / run["cpu_seconds"] for name, run in runs.items() if not name.startswith("loader")}
    by_wall = {name: run["images"] / run["seconds"] for name, run in runs.items()}
    for name, rate in by_wall.items():
        here = f", {by_cpu[name]:6.1f} per CPU second, {runs[name]['peak_mib']:.0f} MiB" if name in by_cpu else ""
        print(f"{name:>22}: {rate:6.1f} images/s{here}")
    memory = runs["ours"]["peak_mib"] / runs["dinov2"]["peak_mib"]
    print(f"ours {by_cpu['ours'] / by_cpu['dinov2']:.2f} times as fast at {memory:.2f} of the memory")
    figures = {
        "images_per_second": by_wall,
        "images_per_cpu_second": by_cpu,
        "peak_mib": {name: runs[name]["peak_mib"] for name in by_cpu},
        "ratio": by_cpu["ours"] / by_cpu["dinov2"],
        "ratio_with_device_part": by_cpu["ours_with_device_part"] / by_cpu["dinov2"],
        "memory_ratio": memory,
        "grey_levels_apart": difference,
        "batch": batch,
        "kilobytes_per_image": sum(file.stat().st_size for file in folder.iterdir())
        / len(list(folder.iterdir()))
        / 1e3,
    }
    targets = [
        Target("images per CPU second, worker's part", by_cpu["ours"], WANTED),
        Target("images per second with one worker", by_wall["loader_1"], WANTED),
        Target("two workers over one", by_wall["loader_2"] / by_wall["loader_1"], SCALING),
    ]
    record("pretrain/data_path", figures, targets, ["torch", "torchvision", "pillow", "numpy"])


def main() -> None:
    """Measure one contestant, or compare all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path, help="a folder of JPEGs, or a Parquet file of Hugging Face's layout")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=36)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="see it run: few images, figures without meaning")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--part", default="worker", help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder:
        print(json.dumps(measure(given.part, given.folder, given.batch, given.steps, given.workers)))
        return
    batch, steps, rounds, count = (4, 2, 1, 8) if given.quick else (given.batch, given.steps, given.rounds, IMAGES)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.images or render_folder(Path(temporary) / "images", count)
        if folder.is_file():
            folder = Path(temporary) / "images"
            folder.mkdir()
            for number, data in enumerate(parquet_images(given.images, 1000)):
                (folder / f"{number:05d}.jpg").write_bytes(data)
        compare(folder, batch, steps, rounds)


if __name__ == "__main__":
    main()
