"""Small pictures, sets of them on disk and a tiny random encoder for the tests of lvd_curate."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def draw_picture(seed: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """Return a smooth random picture: colourful blobs as low-pass noise, unlike any other seed's."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def encode(image: Image.Image, quality: int = 92, format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, quality=quality)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    return draw_picture


@pytest.fixture(scope="session")
def jpeg() -> Callable[..., bytes]:
    return encode


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Model v1 folder: a tiny DINOv2 with random weights and its image processor."""
    import torch
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("encoder") / "model"
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    Dinov2Model(Dinov2Config(**shape)).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pool/ (30 pictures, copies, bad files), seeds/ (10, two of them near pool pictures) and test/ (6, two leaked)."""
    root = tmp_path_factory.mktemp("world")
    for name in ("pool/a", "pool/b", "seeds", "test"):
        (root / name).mkdir(parents=True)
    for seed in range(30):
        (root / "pool/a" / f"{seed:02d}.jpg").write_bytes(encode(draw_picture(seed)))
    for seed in range(100, 110):
        (root / "seeds" / f"{seed}.jpg").write_bytes(encode(draw_picture(seed)))
    for seed in range(200, 206):
        (root / "test" / f"{seed}.jpg").write_bytes(encode(draw_picture(seed)))
    copies = {
        "exact.jpg": encode(draw_picture(0)),
        "small.jpg": encode(draw_picture(1).resize((60, 45))),
        "weak.jpg": encode(draw_picture(2), quality=35),
        "leak.jpg": encode(draw_picture(200)),
        "leak-weak.jpg": encode(draw_picture(201), quality=40),
        "seed.jpg": encode(draw_picture(100)),
        "mislabelled.jpg": encode(draw_picture(50), format="PNG"),
        "tiny.png": encode(draw_picture(51, (20, 20)), format="PNG"),
        "empty.jpg": b"",
        "page.jpg": b"<html>not found</html>",
        "cut.jpg": encode(draw_picture(52))[:700],
    }
    for name, data in copies.items():
        (root / "pool/b" / name).write_bytes(data)
    (root / "pool/b/notes.txt").write_text("no image and no input")
    return root


def write_model(file: Path, inputs: list, nodes: list, outputs: list, constants: dict[str, np.ndarray]) -> Path:
    """Write an ONNX file from (name, shape) of its inputs and outputs, its nodes and its constants."""
    from onnx import TensorProto, helper, numpy_helper, save

    values = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in part] for part in (inputs, outputs)]
    weights = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", *values, weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7), file)
    return file


@pytest.fixture(scope="session")
def redness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of open_nsfw's layout that scores sigmoid(mean(red - blue) / 64)."""
    from onnx.helper import make_node

    nodes = [
        make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2], keepdims=0),
        make_node("MatMul", ["mean", "weight"], ["logits"]),
        make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    weight = np.array([[0, -1], [0, 0], [0, 1]]) / 64  # blue, green, red -> safe, not safe
    file = tmp_path_factory.mktemp("models") / "redness.onnx"
    inputs, outputs = [("pixels", ["B", 224, 224, 3])], [("scores", ["B", 2])]
    return write_model(file, inputs, nodes, outputs, {"weight": weight})


@pytest.fixture(scope="session")
def lamps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of CenterFace's layout, its input declared as small as the published one's.

    Every bright cell of 4 x 4 pixels is a "face" of 16 x 24 pixels (width x height) around that cell's middle.
    """
    from onnx.helper import make_node

    nodes = [
        make_node("Conv", ["pixels", "grey", "bias"], ["light"], kernel_shape=[4, 4], strides=[4, 4]),
        make_node("Sigmoid", ["light"], ["heat"]),
        make_node("Conv", ["pixels", "none", "logs"], ["size"], kernel_shape=[4, 4], strides=[4, 4]),
        make_node("Conv", ["pixels", "none", "zero"], ["offset"], kernel_shape=[4, 4], strides=[4, 4]),
    ]
    constants = {
        "grey": np.full((1, 3, 4, 4), 8 / 255 / 48),
        "bias": np.array([-6]),
        "none": np.zeros((2, 3, 4, 4)),
        "logs": np.log([6, 4]),
        "zero": np.zeros(2),
    }
    outputs = [("heat", [10, 1, 8, 8]), ("size", [10, 2, 8, 8]), ("offset", [10, 2, 8, 8])]
    file = tmp_path_factory.mktemp("models") / "lamps.onnx"
    return write_model(file, [("pixels", [10, 3, 32, 32])], nodes, outputs, constants)


HOSTILE = "<script>alert(1)</script>.jpg"


def write_dataset(folder: Path, tables: dict[str, "object"], config: "object") -> Path:
    """Write the story, lineage and provenance of a dataset as a build leaves them; no images."""
    import json

    from lvd_curate.engine.artifacts import write_table
    from lvd_curate.reporting.counts import count_everything
    from lvd_curate.reporting.story import FOLDER, open_story

    for name in ("data", FOLDER):
        (folder / name).mkdir(parents=True)
    for name, table in tables.items():
        if name == "lineage":
            write_table(table, folder / "lineage.parquet")
        elif name == "rows":
            write_table(table, folder / "data/train-00000-of-00001.parquet")
        else:
            write_table(table, folder / FOLDER / f"{name}.parquet")
    counts = count_everything(tables["lineage"], open_story(folder))
    said = {"fingerprint": "f" * 64, "config": config.content(), "encoders": {}, "counts": counts, "versions": {}}
    (folder / "provenance.json").write_text(json.dumps(said))
    return folder


@pytest.fixture(scope="session")
def dataset_writer() -> Callable[..., Path]:
    return write_dataset


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset's folder with a story of some 330 files, everything in it that a report can show, but no images."""
    import polars as pl

    from lvd_curate.columns import LINEAGE, MODERATED, PICKS
    from lvd_curate.config import EmbedConfig, ModerateConfig, RebalanceConfig
    from lvd_curate.copy_detection.hashing import content_id
    from lvd_curate.inputs.images import encode_preview
    from lvd_curate.recipes import BuildConfig
    from lvd_curate.reporting.story import BALANCED, CLUSTERS, COMPONENTS, CURVES, PREVIEWS, TOUCHES

    draw = np.random.default_rng(0)
    data = {seed: encode(draw_picture(seed)) for seed in range(300)}  # 260 of the pool, 28 seeds, 12 excluded
    ids = {seed: content_id(value) for seed, value in data.items()}
    pool, seeds, excluded = range(260), range(260, 288), range(288, 300)

    components = [(ids[s], s, ids[s], 1.0, None) for s in [*pool, *seeds]]
    stands_for = {}  # copy -> representative
    for group in range(52):
        for copy in range(60 + 2 * group, 62 + 2 * group) if group else range(164, 176):
            stands_for[copy] = group
    for copy, group in stands_for.items():
        score = round(float(draw.uniform(0.62, 1.0)), 3)
        components[copy] = (ids[copy], group, ids[group], score, 0.72 if group == 3 else None)
    touched = {200: (288, 0.97), 201: (289, 0.51), 202: (289, 0.51), 203: (290, 0.88)}
    touches = [(ids[s], "test" if r < 290 else HOSTILE, ids[r], score) for s, (r, score) in touched.items()]
    clean = [s for s in pool if s not in stands_for and s not in touched]
    cluster = {s: int(min(14, draw.geometric(0.25) - 1)) for s in [*clean, *seeds]}
    picks = []
    for place, seed in enumerate(seeds):
        name = "objects" if place < 18 else "birds"
        best = sorted(clean[:60], key=lambda s: draw.random())[:4]
        for rank, (s, value) in enumerate(zip(best, sorted(draw.uniform(0.3, 0.95, 4))[::-1], strict=True), 1):
            picks.append((ids[s], name, "sample", ids[seed], rank, value))
    for s in clean[50:70]:
        picks.append((ids[s], "objects", "cluster", ids[seeds[s % 18]], None, draw.uniform(0.2, 0.9)))
    chosen = [s for s in clean if ids[s] in {pick[0] for pick in picks}]
    kept = chosen[::2]

    def verdict(s: int) -> tuple[str, str, str | None, str | None, float | None]:
        if s in stands_for:
            return "dropped", "deduplicate", "near-duplicate", ids[stands_for[s]], components[s][3]
        if s in touched:
            reference, score = touched[s]
            return "dropped", "decontaminate", "copy of an image of excluded set test", ids[reference], score
        if s in seeds or s in kept:
            return "kept", "materialize", None, None, None
        if s in excluded:
            return "dropped", "ingest", "excluded set: compared with, never part of the dataset", None, None
        reason = "over its cluster's share" if s in chosen else "not like any seed"
        return "dropped", "rebalance" if s in chosen else "retrieve", reason, None, None

    sets = {**dict.fromkeys(pool, ("pool", "web")), **dict.fromkeys(excluded, ("exclude", "test"))}
    sets |= {s: ("seeds", "objects" if s < 278 else "birds") for s in seeds}
    names = {s: f"{s // 50}/{s:03d}.jpg" for s in data} | {5: HOSTILE}
    lineage = [(ids[s], *sets[s], names[s], *verdict(s)) for s in data]
    broken = [("", "not an image"), ("a", "empty file"), ("b", "damaged: </script><b>bold</b>"), ("c", "damaged: cut")]
    lineage += [
        (None, "pool", "web", f"broken/{name}{place}.jpg", "dropped", "screen", reason, None, None)
        for place in range(7)
        for name, reason in broken
    ]
    lineage += [
        (ids[s], "pool", "web", f"again/{s}.jpg", "dropped", "screen", "exact copy", ids[s], 1.0) for s in range(3)
    ]
    curves = [
        (stage, 0.4 + 0.05 * step, int(120 * (1 - step / 12) ** 2))
        for stage in ("deduplicate", "decontaminate")
        for step in range(13)
    ]
    face = {"left": 0.1, "top": 0.1, "width": 0.2, "height": 0.3, "score": 0.9}
    moderated = [(ids[s], float(draw.beta(1, 6)), [face] * int(draw.random() < 0.1)) for s in [*pool, *seeds]]
    balanced = [(ids[s], [cluster[s], cluster[s] // 4], s in kept) for s in chosen]
    rows = [(ids[s], [cluster[s], cluster[s], cluster[s] // 4]) for s in kept]
    rows += [(ids[s], [cluster[s]]) for s in seeds]
    tables = {
        "lineage": pl.DataFrame(lineage, schema=LINEAGE, orient="row"),
        "components": pl.DataFrame(components, schema={**COMPONENTS, "cut": pl.Float32}, orient="row"),
        "touches": pl.DataFrame(touches, schema=TOUCHES, orient="row"),
        "clusters": pl.DataFrame([(ids[s], c) for s, c in cluster.items()], schema=CLUSTERS, orient="row"),
        "picks": pl.DataFrame(picks, schema=PICKS, orient="row"),
        "moderation": pl.DataFrame(moderated, schema=MODERATED, orient="row"),
        "curves": pl.DataFrame(curves, schema=CURVES, orient="row"),
        "balanced": pl.DataFrame(balanced, schema=BALANCED, orient="row"),
        "previews": pl.DataFrame(
            [(ids[s], encode_preview(data[s], 96)) for s in data if s != 7], schema=PREVIEWS, orient="row"
        ),
        "rows": pl.DataFrame(rows, schema={"id": pl.String, "cluster": pl.List(pl.Int32)}, orient="row").sort("id"),
    }
    config = BuildConfig(
        pool={"web": "in/pool"},
        seeds={"objects": "in/seeds", "birds": "in/birds"},
        exclude={"test": "in/test", HOSTILE: "in/hostile"},
        embed=EmbedConfig(encoder="</script><i>model</i>"),
        moderate=ModerateConfig(nsfw="open_nsfw", nsfw_threshold=0.8, faces="centerface"),
        rebalance=RebalanceConfig(target_size=len(kept)),
    )
    return write_dataset(tmp_path_factory.mktemp("told") / "dataset", tables, config)


@pytest.fixture(scope="session")
def run_curate() -> Callable[..., tuple[int, str]]:
    """The command in this process: words in, exit code and what it wrote to stdout and stderr out."""
    from lvd_curate.cli import main

    def run(*words: object) -> tuple[int, str]:
        shown = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["curate", *map(str, words)])
            patch.setattr(sys, "stdout", shown)
            patch.setattr(sys, "stderr", shown)
            with pytest.raises(SystemExit) as ended:
                main()
        return int(ended.value.code or 0), shown.getvalue()

    return run


@pytest.fixture(scope="session")
def numb_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A TorchScript encoder of contrasts: an image of one colour gives NaN."""
    import torch
    from torch import nn

    class Contrasts(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            grid = nn.functional.adaptive_avg_pool2d(pixels, 4).mean(1).flatten(1)
            return (grid - grid.mean(1, keepdim=True)) / grid.std(1, keepdim=True)

    file = tmp_path_factory.mktemp("numb") / "contrasts.pt"
    torch.jit.script(Contrasts()).save(file)
    return f"torchscript:{file}"
