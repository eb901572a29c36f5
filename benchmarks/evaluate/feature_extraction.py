"""Files to stored features beside the bare network, called on tensors that are ready in memory.

    python -m benchmarks.evaluate.feature_extraction [--images 384] [--rounds 2] [--data FILE.parquet] [--quick]

Ours is the pass behind every probe: Parquet file, decode, resize, crop, normalise, four layers and the mean patch of a
ViT-S/14 with drawn weights, float16 shards, fsync; in one process, and in two of torchrun with half the threads each.
Theirs is transformers' own class in a loop over normalised batches of the same size in the same precision, of which
the class token is kept. Cases: 500x375 JPEGs (or those of --data) in float32 and bfloat16, 32x32 PNGs in bfloat16.
Both must give the same class tokens: least cosine 0.9999 in float32, 0.999 in bfloat16.
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.photographs import parquet_images, render_photograph
from benchmarks.turns import Meter, Target, best, in_turn, record

NAME = "benchmarks.evaluate.feature_extraction"
BATCH = 64  # the default of features.batch_size
CASES = {  # images, precision: least cosine
    ("photographs", "float32"): 0.9999,
    ("photographs", "bfloat16"): 0.999,
    ("small", "bfloat16"): 0.999,
}


def main() -> None:
    """Run one turn if told so, else prepare, measure in turn, compare and record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--data", type=Path, help="Parquet file of images, in place of rendered ones")
    parser.add_argument("--quick", action="store_true", help="a narrow network and few images, to try the benchmark")
    parser.add_argument("--turn", choices=("ours", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.turn:
        take_turn(given.turn, given.folder, given.threads)
    else:
        images, rounds, width = (10, 1, 48) if given.quick else (given.images, given.rounds, 384)
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), images, given.data, width)
            compare(Path(folder), images, rounds)


def compare(folder: Path, images: int, rounds: int) -> None:
    """Measure, check that the features are equal, record."""
    module = ["-m", NAME, "--folder", folder, "--threads", threads(), "--turn"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    contestants = {
        "one process": [sys.executable, *module, "ours"],
        "bare": [sys.executable, *module, "bare"],
        "two processes": [sys.executable, *launch, *module, "ours"],
    }
    if threads() < 2:
        del contestants["two processes"]
    figures = {name: best(runs) for name, runs in in_turn(contestants, rounds).items()}
    bare, targets = figures.pop("bare"), []
    for name, ours in figures.items():
        for key in (f"{source} {precision}" for source, precision in CASES):
            seconds, theirs = ours[f"{key} seconds"], bare[f"{key} seconds"]
            work = ours[f"{key} cpu_seconds"] / bare[f"{key} cpu_seconds"]
            print(f"{key}, {name}: {images / seconds:.1f} images/s, {work:.3f} times the bare network's processor time")
            targets.append(Target(f"{key}: rate over the bare network's, {name}", theirs / seconds, 0.90))
    for (source, precision), least in CASES.items():
        ours, theirs = (np.load(folder / f"{turn} {source} {precision}.npy") for turn in ("ours", "bare"))
        cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
        assert cosines.min() >= least, f"{source} {precision}: cosine {cosines.min()} to the bare network's features"
    record(
        "evaluate/feature_extraction",
        {"images": images, "batch": BATCH, "threads": threads(), "ours": figures, "bare": bare},
        targets,
        ("lvd-evaluate", "torch", "transformers", "pillow"),
    )


def prepare(folder: Path, images: int, data: Path | None, width: int) -> None:
    """Save a model and both kinds of images as the tools of the field do."""
    import datasets
    import torch
    from PIL import Image
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(hidden_size=width, num_attention_heads=6, image_size=518)).save_pretrained(folder / "vit")
    processor = {"crop_size": {"height": 224, "width": 224}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "vit/preprocessor_config.json").write_text(json.dumps(processor))
    photographs = list(parquet_images(data, images) if data else map(render_photograph, range(images)))
    small = []
    for content in photographs:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(content)).convert("RGB").resize((32, 32)).save(buffer, "PNG")
        small.append(buffer.getvalue())
    for name, files in (("photographs", photographs), ("small", small)):
        cells = {"image": [{"bytes": file, "path": None} for file in files], "label": [0] * len(files)}
        table = datasets.Dataset.from_dict(cells).cast_column("image", datasets.Image(decode=False))
        table.to_parquet(folder / f"{name}.parquet")


def take_turn(turn: str, folder: Path, threads: int) -> None:
    """One contestant on every case: its class tokens into a file, its figures to the output."""
    import torch

    from lvd_evaluate import ranks

    torch.set_num_threads(threads // int(os.environ.get("WORLD_SIZE", "1")))
    figures: dict[str, float] = {}
    with ranks.together():
        for source, precision in CASES:
            take = extract if turn == "ours" else call_bare
            features, measured = take(folder, source, precision)
            if ranks.is_main():
                np.save(folder / f"{turn} {source} {precision}.npy", features)
                figures |= {f"{source} {precision} {what}": value for what, value in measured.items()}
        if ranks.is_main():
            print(json.dumps(figures))


def extract(folder: Path, source: str, precision: str) -> tuple[np.ndarray, dict[str, float]]:
    """Class tokens [N, D] of our pass, float32, and its figures; one batch goes ahead."""
    import torch

    from lvd_evaluate import ranks
    from lvd_evaluate.config import DataConfig, FeaturesConfig
    from lvd_evaluate.encoders import load_encoder
    from lvd_evaluate.features import encode_batch, extract_features
    from lvd_evaluate.tasks.classification import load_one_set

    split = load_one_set([str(folder / f"{source}.parquet")], DataConfig()).train
    encoder = load_encoder(str(folder / "vit"), image_size=224, seed=0, device=torch.device("cpu"))
    encode_batch(encoder, torch.zeros(BATCH, 3, 224, 224, dtype=torch.uint8), precision)
    store = folder / f"store {time.monotonic_ns() if ranks.world_size() == 1 else os.environ['TORCHELASTIC_RUN_ID']}"
    config = FeaturesConfig(
        precision=precision, batch_size=BATCH, shard_size=-(-len(split) // 2), threads=torch.get_num_threads()
    )
    with Meter() as meter:
        features = extract_features(encoder, split, store, config)
    return features.cls[:, -1].float().numpy(), meter.figures


def call_bare(folder: Path, source: str, precision: str) -> tuple[np.ndarray, dict[str, float]]:
    """Class tokens [N, D] of the network itself, float32, and its figures; one batch goes ahead."""
    import torch
    from PIL import Image
    from torchvision.transforms import v2
    from transformers import AutoModel

    cut = v2.Compose([v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224), v2.PILToTensor()])
    files = parquet_images(folder / f"{source}.parquet", 10**9)
    images = torch.stack([cut(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    ready = ((images.float() / 255 - 0.5) / 0.25).split(BATCH)
    model = AutoModel.from_pretrained(folder / "vit").eval()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        model(torch.zeros(BATCH, 3, 224, 224))
        with Meter() as meter:
            found = [model(batch).last_hidden_state[:, 0].float() for batch in ready]
    return torch.cat(found).numpy(), meter.figures


def threads() -> int:
    """Threads that a contestant has: those of OMP_NUM_THREADS, else one per core."""
    return int(os.environ.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
