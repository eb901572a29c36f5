"""What distillation is for: a small student of a larger teacher beside the same student trained from scratch.

    make quickstart
    python -m benchmarks.pretrain.distillation quickstart/runs/vit quickstart/curated quickstart/corpus runs/students

The teacher is the quickstart's model (recipe tiny: width 128, depth 4, 600 steps without labels); the student has width
48 and depth 2. Both students see the same images in the same order for as many steps. k-NN (k = 20, T = 0.07, cosine,
cls token) on the corpus' labelled train and test images. Finished runs in the last folder are kept.
"""

import argparse
import io
from pathlib import Path

import polars
import torch
import torch.nn.functional as F
from benchmarks.turns import record
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.pretrained import load_backbone, open_pretrained
from lvd_pretrain.recipes import build_config, find_recipe
from lvd_pretrain.train import pretrain
from lvd_pretrain.vit import VisionTransformer

RECIPE = find_recipe("tiny")
STUDENT = ("model.width=48", "model.depth=2", "model.heads=3")
SIZE = 48  # pixels


def read_labelled(folder: Path) -> tuple[Tensor, Tensor]:
    """Normalised images [N, 3, SIZE, SIZE] and labels [N] of a Parquet split."""
    augment = PretrainConfig().augment
    prepare = v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize(SIZE, antialias=True),
            v2.CenterCrop(SIZE),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(augment.mean, augment.std),
        ]
    )
    table = polars.read_parquet(folder / "data/*.parquet")
    images = torch.stack([prepare(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in table["image"]])
    return images, torch.tensor(table["label"].to_list())


@torch.no_grad()
def top1(model: VisionTransformer, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Weighted k-NN accuracy in percent."""
    features, queries = (
        F.normalize(torch.cat([model.eval()([part])[0].cls for part in images.split(100)]), dim=1)
        for images, _ in (train, test)
    )
    similarity, nearest = (queries @ features.T).topk(20)
    votes = torch.zeros(len(queries), int(train[1].max()) + 1)
    votes.scatter_add_(1, train[1][nearest], torch.exp(similarity / 0.07))
    return float((votes.argmax(1) == test[1]).float().mean() * 100)


def open_backbone(run: Path) -> VisionTransformer:
    """The newest model of a run."""
    weights = open_pretrained(str(run))
    backbone = VisionTransformer(weights.shape, SIZE)
    load_backbone(backbone, weights)
    return backbone


def main() -> None:
    """Train both students, measure, record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("teacher", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    words = parser.parse_args()
    common = [f"data.path={words.data}", "data.workers=1", f"optim.steps={words.steps}", *STUDENT]
    runs = {"scratch": common, "distilled": [*common, f"distill.teacher={words.teacher}"]}
    train, test = (read_labelled(words.corpus / part) for part in ("train", "test"))
    result = {"knn_teacher": top1(open_backbone(words.teacher), train, test)}
    for name, settings in runs.items():
        run = pretrain(build_config(RECIPE, [*settings, f"out={words.out / name}"]))
        result[f"knn_{name}"] = top1(open_backbone(run), train, test)
    torch.manual_seed(0)
    untrained = VisionTransformer(build_config(RECIPE, STUDENT).model, SIZE)
    result["knn_untrained"] = top1(untrained, train, test)
    print(result)
    figures = {"steps": words.steps, **result, "train": len(train[1]), "test": len(test[1])}
    record("pretrain/distillation", figures, packages=["lvd-pretrain", "torch"])


if __name__ == "__main__":
    main()
