"""Small pictures, sets of them on disk and a tiny random encoder for the tests of lvd_curate."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lvd_curate.config import build_config
from lvd_curate.recipes import BuildConfig


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


@pytest.fixture(scope="session")
def world_sets(world: Path) -> dict[str, dict[str, str]]:
    """Its folders as the sets of a recipe."""
    folders = {"pool": "pool", "seeds": "seeds", "exclude": "test"}
    return {role: {role: str(world / folder)} for role, folder in folders.items()}


@pytest.fixture
def config(world_sets: dict[str, dict[str, str]], encoder: Path) -> BuildConfig:
    """A build of them in this process."""
    words = [f"embed.encoder={encoder}", "execution.engine=inline", "execution.device=cpu", "retrieve.neighbours=1"]
    return build_config(BuildConfig, None, words, world_sets)


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
