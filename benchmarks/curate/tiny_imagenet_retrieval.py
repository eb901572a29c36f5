"""Retrieval and rebalancing on real images: do seeds bring their like, and does a long tail become even?

    python -m benchmarks.curate.tiny_imagenet_retrieval PARQUET WEIGHTS OUT

PARQUET holds `image` and `label` (Tiny ImageNet), WEIGHTS is a DINOv2 ViT-S/14 in Meta's key layout. 20 images of each
of 10 classes leave the pool and become the seeds. Prints purity (share of the distinct images retrieved that are of the
seeds' classes) against chance, collisions per N and policy, and the effective classes of a Zipf draw of the pool before
and after rebalancing it, beside random and flat k-means draws of equal size. Writes OUT/{model, embeddings.npy,
seeds.png}; embeddings that OUT holds are not computed again.
"""

import io
import logging
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import polars as pl
from benchmarks.turns import record

from lvd_curate.config import ClusterConfig, RebalanceConfig, RetrieveConfig
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.search.kmeans import effective_clusters
from lvd_curate.stages.cluster import cluster
from lvd_curate.stages.rebalance import ITERATIONS, rebalance, sample_top_down, scale_levels
from lvd_curate.stages.retrieve import retrieve
from lvd_curate.vectors import Vectors

CLASSES, SEEDS_PER_CLASS = 10, 20
FALLS, KEPT, DRAWS = (0.7, 1.0), 0.20, 3  # exponents of the class sizes, share kept, seeds
# pixels; of the 4 nearest among 300 images of 20 classes, 55 % are of the same class at 112, 85 % at 168, 88 % at 224
SIDE = 168
BATCH = 64
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def build_model(weights: Path, folder: Path) -> None:
    """Write the official checkpoint as a transformers folder with an image processor for SIDE pixels."""
    from safetensors.torch import load_file, save_file
    from transformers import BitImageProcessor, Dinov2Config

    folder.mkdir(parents=True)
    Dinov2Config(
        hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14, architectures=["Dinov2Model"]
    ).save_pretrained(folder)
    save_file(rename_weights(load_file(weights)), folder / "model.safetensors", {"format": "pt"})
    square = {"height": SIDE, "width": SIDE}
    processor = BitImageProcessor(
        size={"shortest_edge": SIDE}, crop_size=square, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD
    )
    processor.save_pretrained(folder)


def rename_weights(official: dict) -> dict:
    """Give Meta's tensors the names of transformers; the joint query-key-value projection is cut in three."""
    words = [
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        ("cls_token", "embeddings.cls_token"),
        ("pos_embed", "embeddings.position_embeddings"),
        ("mask_token", "embeddings.mask_token"),
        ("blocks.", "encoder.layer."),
        ("attn.proj", "attention.output.dense"),
        ("ls1.gamma", "layer_scale1.lambda1"),
        ("ls2.gamma", "layer_scale2.lambda1"),
    ]
    renamed = {}
    for name, value in official.items():
        for theirs, ours in words:
            name = name.replace(theirs, ours)
        if not name.startswith(("embeddings", "encoder")):
            name = "layernorm" + name.removeprefix("norm")
        if "attn.qkv" not in name:
            renamed[name] = value
            continue
        for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
            renamed[name.replace("attn.qkv", f"attention.attention.{part}")] = piece.contiguous()
    return renamed


def embed(images: pl.Series, folder: Path, file: Path) -> None:
    """Embed encoded images in bf16 on one thread, and write unit vectors float16 [N, 384]."""
    import torch

    from lvd_curate.inputs.images import decode_rgb
    from lvd_curate.models.encoders import load_encoder

    torch.set_num_threads(1)
    encoder = load_encoder(str(folder))
    batches = [
        encoder.embed([decode_rgb(data) for data in images[start : start + BATCH]], "bf16")
        for start in range(0, len(images), BATCH)
    ]
    np.save(file, np.concatenate(batches))


def split_seeds(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the pool and of the seeds."""
    draw = np.random.default_rng(0)
    classes = draw.permutation(np.unique(labels))[:CLASSES]
    seeds = np.concatenate([draw.permutation(np.flatnonzero(labels == c))[:SEEDS_PER_CLASS] for c in classes])
    return np.setdiff1d(np.arange(len(labels)), seeds), seeds


def name_rows(rows: np.ndarray) -> pl.DataFrame:
    """Return ids that sort as their rows do, and a source."""
    return pl.DataFrame({"id": [f"{row:06d}" for row in rows]}).with_columns(source=pl.lit("seeds"))


def rows_of(picks: pl.DataFrame) -> np.ndarray:
    """Return the distinct rows that were picked."""
    return picks["id"].unique().sort().cast(pl.Int64).to_numpy()


def measure_retrieval(file: Path, labels: np.ndarray, bench: Workbench) -> tuple[dict, dict[str, pl.DataFrame]]:
    """Return figures of both modes, and the picks for the picture."""
    pool, seeds = split_seeds(labels)
    everything = np.concatenate([pool, seeds])
    assigned = cluster(Vectors(file, pool), name_rows(everything), Vectors(file, everything), ClusterConfig(), 0, bench)
    tables = [name_rows(rows).join(assigned, on="id", maintain_order="left") for rows in (pool, seeds)]
    wanted = np.unique(labels[seeds])
    chance = float(np.isin(labels[pool], wanted).mean())

    def run(**knobs: object) -> tuple[dict, pl.DataFrame]:
        config = RetrieveConfig(**knobs)  # type: ignore[arg-type]
        picks = retrieve(tables[0], Vectors(file, pool), tables[1], Vectors(file, seeds), config, 0, bench)
        rows = rows_of(picks)
        purity = float(np.isin(labels[rows], wanted).mean())
        collisions = 1 - len(rows) / len(picks)
        own = labels[picks["id"].cast(pl.Int64).to_numpy()] == labels[picks["seed_id"].cast(pl.Int64).to_numpy()]
        figures = {"picks": len(picks), "images": len(rows), "collisions": collisions, "purity": purity}
        figures |= {"times_chance": purity / chance, "picks_of_the_seeds_own_class": float(own.mean())}
        return {name: round(value, 4) for name, value in figures.items()}, picks

    found = {f"sample N={n} unique": run(mode="sample", neighbours=n) for n in (1, 2, 4, 8, 16, 32)}
    found |= {
        f"sample N={n} refill": run(mode="sample", neighbours=n, collisions="refill") for n in (1, 2, 4, 8, 16, 32)
    }
    found["cluster"] = run(mode="cluster")
    found |= {f"both N=4 {policy}": run(mode="both", collisions=policy) for policy in ("unique", "multiset", "refill")}
    modes = {"sample": found["sample N=4 unique"][1], "cluster": found["cluster"][1]}
    return {"chance": round(chance, 4)} | {name: figures for name, (figures, _) in found.items()}, modes


def draw_tail(labels: np.ndarray, pool: np.ndarray, fall: float, seed: int) -> np.ndarray:
    """Return rows of the pool whose class sizes fall as 1 / rank^fall, from all of the first class on."""
    draw = np.random.default_rng(seed)
    classes = draw.permutation(np.unique(labels))
    members = [draw.permutation(pool[labels[pool] == c]) for c in classes]
    top = min(map(len, members))
    return np.concatenate([rows[: max(1, int(top / (rank + 1) ** fall))] for rank, rows in enumerate(members)])


def measure_balance(file: Path, labels: np.ndarray, fall: float, seed: int) -> dict[str, float]:
    """Return effective classes of a long tail and of what each way keeps of it."""
    rows = np.sort(draw_tail(labels, split_seeds(labels)[0], fall, seed))
    vectors, target = Vectors(file, rows), round(KEPT * len(rows))
    config = RebalanceConfig(target_size=target)
    draw = np.random.default_rng(seed)
    finest = scale_levels(config, len(rows))[0]
    flat = faiss.Kmeans(vectors.dim, finest, niter=ITERATIONS, seed=seed, spherical=True, min_points_per_centroid=1)
    flat.train(vectors.load())
    clusters = flat.index.search(vectors.load(), 1)[1]  # [N, 1]
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(Path(folder), InlineExecutor(), 1 << 30)
        ours = rebalance(name_rows(rows), vectors, config, seed, bench)["kept"].to_numpy()
    kept = {
        "raw": np.arange(len(rows)),
        "random": draw.permutation(len(rows))[:target],
        "flat": sample_top_down(clusters, target, draw.permutation(len(rows)), draw),
        "ours": ours,
    }
    return {"images": len(rows), "kept": target, "finest": finest} | {
        name: effective_clusters(labels[rows[mine]]) for name, mine in kept.items()
    }


def draw_picture(images: pl.Series, labels: np.ndarray, modes: dict[str, pl.DataFrame], file: Path) -> None:
    """Lay a seed of each class beside what it brought: its nearest four, and four of its cluster's draw."""
    from matplotlib.figure import Figure
    from PIL import Image

    _, seeds = split_seeds(labels)
    figure = Figure(figsize=(11, 1.25 * CLASSES))
    axes = figure.subplots(CLASSES, 9)
    for line, seed in zip(axes, seeds[::SEEDS_PER_CLASS], strict=True):
        shown = [int(seed)]
        for picks in modes.values():
            mine = picks.filter(pl.col("seed_id") == f"{seed:06d}").sort("similarity", descending=True)
            shown += [*mine["id"].cast(pl.Int64).head(4).to_list(), *[-1] * 4][:4]
        for axis, row in zip(line, shown, strict=True):
            axis.set_axis_off()
            if row >= 0:
                axis.imshow(Image.open(io.BytesIO(images[row])).convert("RGB"))
                axis.set_title("same class" if labels[row] == labels[seed] else "other class", fontsize=7)
    for axis, title in zip(axes[0], ["seed", "nearest", *[""] * 3, "of its cluster", *[""] * 3], strict=True):
        axis.set_title(f"{title}\n{axis.get_title()}", fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    """Measure, print and record."""
    logging.basicConfig(level=logging.WARNING)
    parquet, weights, out = map(Path, sys.argv[1:4])
    table = pl.read_parquet(parquet)
    images, labels = table["image"].struct.field("bytes"), table["label"].to_numpy()
    out.mkdir(parents=True, exist_ok=True)
    started = time.process_time()
    if not (out / "embeddings.npy").exists():
        if not (out / "model").exists():
            build_model(weights, out / "model")
        embed(images, out / "model", out / "embeddings.npy")
        sys.stdout.write(f"embedded {len(images)} images in {time.process_time() - started:.0f} CPU s\n")
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(Path(folder), InlineExecutor(), 1 << 30)
        retrieval, modes = measure_retrieval(out / "embeddings.npy", labels, bench)
    for name, figures in retrieval.items():
        sys.stdout.write(f"{name:22}{figures}\n")
    draw_picture(images, labels, modes, out / "seeds.png")
    balance = {}
    for fall in FALLS:
        runs = [measure_balance(out / "embeddings.npy", labels, fall, seed) for seed in range(DRAWS)]
        balance[f"1/rank^{fall}"] = {name: round(float(np.median([run[name] for run in runs])), 1) for name in runs[0]}
        sys.stdout.write(f"effective classes, sizes 1/rank^{fall}: {balance[f'1/rank^{fall}']}\n")
    figures = {"retrieval": retrieval, "balance": balance}
    record("curate/tiny_imagenet_retrieval", figures, packages=["faiss-gpu", "numpy", "torch", "transformers"])


if __name__ == "__main__":
    main()
