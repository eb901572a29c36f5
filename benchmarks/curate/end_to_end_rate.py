"""Images per second of `curate build-lvd`, from a folder of JPEGs to a dataset, beside its encoder alone.

    python -m benchmarks.curate.end_to_end_rate [--images 2048] [--workers 2] [--precision bf16] [--rounds 2] [--quick]

Photograph-like JPEGs of 500x375 pixels; a ViT-S/16 with random weights at 224 pixels. In turn: the whole build with
`--workers` processes, as the command does it; and the very same encoder over ready tensors, 64 to a batch, in as many
processes of one thread each. What does not depend on the number of images is left out on both sides: the encoder's
clock starts with loaded models, and the build's rate is that of the images by which a large build exceeds one of 256.
Wanted: at least 0.8 of the encoder's rate. Checked: both gave the same vectors.
"""

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.curate.stage_clock import StageClock, used_seconds
from benchmarks.turns import Target, in_turn, record

SMALL, FULL, QUICK = 256, 2048, 512  # pool images
BATCH, SEEDS, FIRST_SEED, COMPARED, TARGET = 64, 32, 10**6, 8, 0.8
PACKAGES = ("lvd-curate", "torch", "torchvision", "transformers", "pillow")


def make_world(folder: Path, count: int, workers: int) -> None:
    """Write a small and a large pool, seeds and the encoder's folder, unless they are there."""
    import torch
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    with spawn(workers) as processes:
        for name, first, size in (("seeds", FIRST_SEED, SEEDS), (f"{SMALL}", 0, SMALL), (f"{count}", 0, count)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            files = [folder / name / f"{number:07d}.jpg" for number in range(first, first + size)]
            list(processes.map(write_photograph, files, chunksize=16))
    torch.manual_seed(0)
    shape = ViTConfig(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536)
    ViTModel(shape, add_pooling_layer=False).save_pretrained(folder / "model")
    ViTImageProcessor().save_pretrained(folder / "model")


def spawn(workers: int) -> ProcessPoolExecutor:
    """Return freshly started processes."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def write_photograph(file: Path) -> None:
    """Render the photograph that the file's name numbers, unless it is there."""
    from benchmarks.curate.decode_rate import FALLOFF
    from benchmarks.photographs import render_photograph

    if not file.exists():
        file.write_bytes(render_photograph(int(file.stem), falloff=FALLOFF))


def build(folder: Path, count: int, workers: int, precision: str) -> dict[str, Any]:
    """Build from both pools; return the difference in images and seconds, and the larger one's seconds by stage."""
    from lvd_curate.config import EmbedConfig, ExecutionConfig
    from lvd_curate.pipeline import build_lvd
    from lvd_curate.recipes import BuildConfig

    spent, used = [], []
    clock = StageClock(memory=False)
    with clock.ticking():
        for size in (SMALL, SMALL, count):  # the first warms the disk's cache
            out = folder / f"dataset-{size}"
            for stale in (out, out.with_name(out.name + ".work")):
                shutil.rmtree(stale, ignore_errors=True)
            config = BuildConfig(
                pool={"web": str(folder / f"{size}")},
                seeds={"seeds": str(folder / "seeds")},
                embed=EmbedConfig(encoder=str(folder / "model"), batch_size=BATCH, precision=precision),
                execution=ExecutionConfig(workers=workers, device="cpu"),
            )
            before, began = used_by_stage(clock), (time.perf_counter(), used_seconds())
            build_lvd(config, out)
            spent.append(time.perf_counter() - began[0])
            used.append(used_seconds() - began[1])
            after = used_by_stage(clock)
    seconds, images = spent[2] - spent[1], count - SMALL
    return {
        "seconds": seconds,
        "rate": images / seconds,
        "cpu_rate": images / (used[2] - used[1]),
        "whole_seconds": spent[2],
        "stages": {stage: spent - before.get(stage, 0.0) for stage, spent in after.items()},
    }


def used_by_stage(clock: StageClock) -> dict[str, float]:
    """Return the seconds charged to each stage so far."""
    clock.charge()
    return {stage: figures["seconds"] for stage, figures in clock.figures.items()}


def encode(folder: Path, count: int, workers: int, precision: str) -> dict[str, Any]:
    """Run the encoder alone over `count` ready images, shared out to processes of one thread; check their vectors."""
    with SyncManager(ctx=multiprocessing.get_context("spawn")) as manager, spawn(workers) as processes:
        start = manager.Barrier(workers)
        run = partial(encode_share, folder, count // workers // BATCH, precision, start)
        times = list(processes.map(run, range(workers)))
    seconds = max(stop for _, stop, _ in times) - min(begin for begin, _, _ in times)
    images = count // workers // BATCH * BATCH * workers
    used = sum(cpu for _, _, cpu in times)
    return {"seconds": seconds, "rate": images / seconds, "cpu_rate": images / used}


def encode_share(folder: Path, batches: int, precision: str, start: Any, number: int) -> tuple[float, float, float]:
    """Encode one process's share; return when it began, when it ended, and its processor time."""
    import torch

    from lvd_curate.inputs.images import decode_rgb
    from lvd_curate.models.encoders import load_encoder

    torch.set_num_threads(1)
    model = load_encoder(str(folder / "model"), "cpu")
    files = sorted((folder / f"{SMALL}").iterdir())[:BATCH]
    images = [decode_rgb(file.read_bytes()) for file in files]
    check(folder, files[:COMPARED], model.embed(images[:COMPARED], precision))
    pixels = model.preprocess(images)  # [B, 3, 224, 224]
    start.wait()
    began, used = time.perf_counter(), time.process_time()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        for _ in range(batches):
            model.extract(pixels)
    return began, time.perf_counter(), time.process_time() - used


def check(folder: Path, files: Sequence[Path], vectors: np.ndarray) -> None:
    """Compare vectors with those that the small build left in its work folder."""
    import polars as pl

    from lvd_curate.copy_detection.hashing import content_id

    (made,) = (folder / f"dataset-{SMALL}.work").glob("embed-*")
    ids = pl.read_parquet(made / "shard-*.parquet")["id"].to_list()
    rows = [ids.index(content_id(file.read_bytes())) for file in files]
    cosines = (np.load(made / "embedding.npy")[rows].astype(np.float32) * vectors.astype(np.float32)).sum(axis=1)
    assert cosines.min() > 0.998, f"the build's vectors are not the encoder's: cosines {cosines}"


def main() -> None:
    """Measure in turn, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=FULL)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} images, one round")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.quick:
        given.images, given.rounds = QUICK, 1
    if given.measure:
        measured = {"build": build, "encoder": encode}[given.measure[0]]
        print(json.dumps(measured(Path(given.measure[1]), given.images, given.workers, given.precision)))
        return
    words = ["--images", given.images, "--workers", given.workers, "--precision", given.precision]
    command = [sys.executable, "-m", "benchmarks.curate.end_to_end_rate", *words, "--measure"]
    with tempfile.TemporaryDirectory(prefix="end-to-end-") as folder:
        make_world(Path(folder), given.images, given.workers)
        figures = in_turn({name: [*command, name, folder] for name in ("build", "encoder")}, given.rounds)
    ours = min(figures["build"], key=lambda run: run["seconds"])
    alone = max(run["rate"] for run in figures["encoder"])
    print(f"build {ours['rate']:.1f} images/s, encoder alone {alone:.1f}")
    per_core = ours["cpu_rate"] / max(run["cpu_rate"] for run in figures["encoder"])
    print(f"images per processor second over the encoder's: {per_core:.3f} (what a busy machine leaves to compare)")
    total = sum(ours["stages"].values())
    for stage, seconds in sorted(ours["stages"].items(), key=lambda each: -each[1]):
        print(f"  {stage:20}{seconds:8.1f} s{100 * seconds / total:6.1f} %")
    targets = [Target("end-to-end rate over the encoder's", ours["rate"] / alone, TARGET)]
    shapes = {"images": given.images, "workers": given.workers, "precision": given.precision}
    record("curate/end_to_end_rate", {**shapes, **figures}, targets, PACKAGES)


if __name__ == "__main__":
    main()
