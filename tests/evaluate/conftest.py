import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

CLASSES = ["red", "green", "blue"]


@pytest.fixture(autouse=True, scope="session")
def _private_dataset_cache(tmp_path_factory):
    """Nothing of a test run lands in the user's cache of datasets."""
    import datasets

    patch = pytest.MonkeyPatch()
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets-cache"))
    yield
    patch.undo()


def render(label: int, generator: np.random.Generator, size: tuple[int, int] = (40, 32)) -> bytes:
    """A JPEG whose class shows in its mean colour, under noise."""
    pixels = generator.normal(110, 30, (size[1], size[0], 3))
    pixels[..., label] += 60
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_dataset(folder: Path, labels: list[int], seed: int, split: str = "train", columns=("image", "label")) -> Path:
    """A Hugging Face dataset folder with class labels, one Parquet file."""
    import datasets

    generator = np.random.default_rng(seed)
    images = [{"bytes": render(label, generator), "path": None} for label in labels]
    table = datasets.Dataset.from_dict({columns[0]: images, columns[1]: labels})
    table = table.cast_column(columns[0], datasets.Image())
    table = table.cast_column(columns[1], datasets.ClassLabel(names=CLASSES))
    (folder / "data").mkdir(parents=True)
    table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """train/ with 45 and test/ with 30 images of three classes."""
    folder = tmp_path_factory.mktemp("data") / "colours"
    write_dataset(folder / "train", [0, 1, 2] * 15, seed=1)
    write_dataset(folder / "test", [0, 1, 2] * 10, seed=2, split="test")
    return folder


def write_model(folder: Path, seed: int = 0, registers: int = 2, **shape: int) -> Path:
    """A Model v1 folder with freshly drawn weights: 28 px, patches of 14, width 24."""
    from transformers import AutoModel, Dinov2Config, Dinov2WithRegistersConfig

    shape = {
        "hidden_size": 24,
        "num_hidden_layers": 5,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    } | shape
    kind = Dinov2WithRegistersConfig if registers else Dinov2Config
    torch.manual_seed(seed)
    model = AutoModel.from_config(kind(**shape, **({"num_register_tokens": registers} if registers else {})))
    with torch.no_grad():
        for parameter in model.parameters():  # no weight at its neutral value, else a forgotten norm would not show
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    processor = {
        "image_processor_type": "BitImageProcessor",
        "crop_size": {"height": shape["image_size"], "width": shape["image_size"]},
        "size": {"shortest_edge": 32},
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.2, 0.25, 0.3],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory) -> Path:
    """runs/tiny with models/step_2, models/step_10, checkpoints/step_10 and `model` pointing at the newest."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    write_model(run / "models" / "step_2", seed=2)
    write_model(run / "models" / "step_10", seed=10)
    (run / "checkpoints" / "step_10").mkdir(parents=True)
    (run / "model").symlink_to(Path("models") / "step_10")
    return run


class ColourEncoder:
    """An encoder simple enough to follow by hand: `cls` of layer n is the mean colour times n + 1."""

    name = spec = "colour"
    loader = "test"
    feature = "mean colour"
    image_size, resize_size, patch_size = 16, 18, 8
    mean = std = (0.5, 0.5, 0.5)
    num_layers, num_parameters = 4, 0
    fingerprint = "colour-1"
    device = torch.device("cpu")

    def __init__(self, scale: float = 1.0):
        self.scale, self.calls = scale, 0

    def at_size(self, height, width):
        return self

    def encode(self, images, layers, *, normed=True):
        from lvd_evaluate.contracts import Tokens

        self.calls += 1
        layers = range(layers) if isinstance(layers, int) else layers
        colour = self.scale * images.float().mean(dim=(2, 3)) / 255
        patches = colour[:, None, None, :].expand(-1, 2, 2, -1)
        return [Tokens(cls=colour * (layer + 1), patches=patches) for layer in layers]


@pytest.fixture
def colour_encoder():
    return ColourEncoder()


@pytest.fixture
def make_encoder():
    return ColourEncoder


@pytest.fixture(scope="session")
def make_dataset():
    return write_dataset


@pytest.fixture(scope="session")
def make_model():
    return write_model


@pytest.fixture(scope="session")
def make_image():
    return render


def draw_blobs(count, seed, layers=4, classes=4, noise=1.5):
    """Features of `count` images whose classes are Gaussian blobs around the same centres for every seed."""
    from lvd_evaluate.contracts import Features

    centres = np.random.default_rng(0).normal(size=(classes, layers, 8))
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    cls = torch.from_numpy(centres[labels] + noise * generator.normal(size=(count, layers, 8)))
    return Features(cls.half(), cls[:, -1].half() * 0.5 + 0.1, torch.from_numpy(labels), 1.0, 1.0)


@pytest.fixture(scope="session")
def blobs():
    return draw_blobs


@pytest.fixture(scope="session")
def make_row():
    """Builds a row of results: make_row(spec, probe, value, **fields)."""
    from lvd_evaluate.scoring.results import Row

    def build(spec: str, probe: str, value: float | None, **fields):
        ends = (None, None) if value is None else (value - 0.02, value + 0.02)
        facts = {
            "run": f"{spec}-{probe}",
            "task": "birds",
            "task_fingerprint": "f",
            "protocol": "clean",
            "procedure": f"{probe}-procedure",
            "probe": probe,
            "metric": "top1",
            "model": spec,
            "spec": spec,
            "loader": "timm 1",
            "weights_fingerprint": "0123456789abcdef",
            "num_parameters": 1000,
            "preprocessing": "short side 256",
            "feature": "class token",
            "n_train": 1000,
            "n_test": 600,
            "n_classes": 10,
            "value": value,
            "ci_low": ends[0],
            "ci_high": ends[1],
            "ci_method": "Wilson",
            "probe_seconds": 1.0,
            "images_per_second": 10.0,
            "seed": 0,
            "versions": {"torch": "2"},
        }
        return Row(**(facts | fields))

    return build


@pytest.fixture
def make_comparison():
    """Builds a comparison of a row: make_comparison(spec, delta, verdict)."""

    def build(spec: str, delta: float, verdict: str):
        ends = {"ci_low": delta - 0.03, "ci_high": delta + 0.03}
        return {"baseline": spec, "spec": spec, "delta": delta, **ends, "p": 0.5, "verdict": verdict}

    return build


@pytest.fixture
def report_rows(make_row, make_comparison):
    """Ours beside pixels on two probes, and a baseline that could not be had."""
    gone = {"baseline": "open_clip:X/y", "spec": "open_clip:X/y", "verdict": "unavailable", "reason": "no network"}
    unavailable = {"status": "unavailable", "reason": "no network"}
    return [
        make_row("ours", "knn", 0.621, comparisons=[make_comparison("pixels", 0.3, "better"), gone]),
        make_row("ours", "knn", 0.5, setting={"k": 10}, headline=False),
        make_row("ours", "linear", 0.702, comparisons=[make_comparison("pixels", 0.01, "tie"), gone]),
        make_row("pixels", "knn", 0.321),
        make_row("pixels", "linear", 0.692),
        make_row("open_clip:X/y", "knn", None, **unavailable),
        make_row("open_clip:X/y", "linear", None, **unavailable),
    ]
