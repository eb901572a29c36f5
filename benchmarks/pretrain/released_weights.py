"""Whether released DINOv2 weights are the same model here, in transformers and in timm, and where going on begins.

    python -m benchmarks.pretrain.released_weights WEIGHTS.safetensors IMAGES.parquet [--steps 2]

WEIGHTS is the official ViT-S/14 without registers, IMAGES a labelled Parquet file (columns image, label). First the
tokens of one 518-pixel image in three libraries, float32. Then a few steps of `pretrain` from these weights with fresh
heads, and k-NN (k = 20, T = 0.07, cosine, cls token, 98 pixels) on images held out, of: the weights as given, the model
after the steps, and random weights.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import polars
import timm
import torch
import torch.nn.functional as F
from benchmarks.turns import record
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from transformers import AutoModel

from lvd_pretrain.config import ModelConfig, PretrainConfig
from lvd_pretrain.export import export_model
from lvd_pretrain.layouts import to_timm
from lvd_pretrain.pretrained import load_backbone, open_pretrained
from lvd_pretrain.ranks import gather_weights
from lvd_pretrain.recipes import build_config
from lvd_pretrain.train import pretrain
from lvd_pretrain.vit import VisionTransformer

SHAPE = ("model.arch=vit_small", "model.patch_size=14", "model.pos_embed_offset=0.1", "model.drop_path=0.0")
TRAIN, TEST = 400, 200  # images of the k-NN: minutes on one busy core


def compare_tokens(weights: str, folder: Path) -> dict[str, float]:
    """Largest difference of all tokens at 518 pixels between our ViT and each library's, and their size."""
    config = build_config(None, [*SHAPE, "crops.global_size=518", "crops.local_size=98"])
    ours = VisionTransformer(config.model, 518).eval()
    load_backbone(ours, open_pretrained(weights))
    exported = export_model(
        folder, 0, gather_weights(torch.nn.ModuleDict({"backbone": ours})), config,
        {"dataset": "", "images": 0, "global_batch": 0},
    )  # fmt: skip
    theirs = AutoModel.from_pretrained(exported).eval()
    timms: Any = timm.create_model("vit_small_patch14_dinov2", num_classes=0).eval()
    timms.load_state_dict(to_timm(ours.state_dict()))
    images = torch.randn(1, 3, 518, 518, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (tokens,) = ours([images])
        expected = torch.cat([tokens.cls.unsqueeze(1), tokens.patches], dim=1)  # [1, 1370, 384]
        return {
            "transformers": float((theirs(images).last_hidden_state - expected).abs().max()),
            "timm": float((timms.forward_features(images) - expected).abs().max()),
            "largest_value": float(expected.abs().max()),
        }


@torch.no_grad()
def embed(model: VisionTransformer, images: Tensor) -> Tensor:
    """Unit cls tokens, [N, D]."""
    return F.normalize(torch.cat([model.eval()([part])[0].cls for part in images.split(50)]), dim=1)


def top1(model: VisionTransformer, images: Tensor, labels: Tensor) -> float:
    """Weighted k-NN accuracy of the last TEST images among the first TRAIN, percent."""
    features = embed(model, images)
    similarity, nearest = (features[TRAIN:] @ features[:TRAIN].T).topk(20)
    votes = torch.zeros(TEST, int(labels.max()) + 1)
    votes.scatter_add_(1, labels[:TRAIN][nearest], torch.exp(similarity / 0.07))
    return float((votes.argmax(1) == labels[TRAIN:]).float().mean() * 100)


def main() -> None:
    """Compare, go on, measure, record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("weights")
    parser.add_argument("images")
    parser.add_argument("--steps", type=int, default=2)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result: dict[str, object] = {"max_difference": compare_tokens(words.weights, Path(folder) / "export")}
        print(result, flush=True)
        table = polars.read_parquet(words.images).sample(TRAIN + TEST, seed=0, shuffle=True)
        prepare = v2.Compose([v2.PILToTensor(), v2.Resize((98, 98), antialias=True), v2.ToDtype(torch.float32, True),
                              v2.Normalize(PretrainConfig().augment.mean, PretrainConfig().augment.std)])  # fmt: skip
        images = torch.stack([prepare(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in table["image"]])
        labels = torch.tensor(table["label"].to_list())
        recipe = [
            *SHAPE, f"data.path={words.images}", f"out={folder}/run", f"init_from={words.weights}",
            "crops.global_size=98", "crops.local_size=42", "crops.local_number=2", "optim.batch_size=16",
            f"optim.steps={words.steps}", "optim.warmup=1", "optim.base_lr=1e-4", "data.workers=0", "log_every=1",
            "dino_head.prototypes=1024", "ibot_head.prototypes=1024",
        ]  # fmt: skip
        run = pretrain(build_config(None, recipe))
        shape = ModelConfig(arch="vit_small", patch_size=14, pos_embed_offset=0.1, drop_path=0.0)
        for name, source, size in (("given", words.weights, 518), ("continued", str(run), 98), ("random", None, 98)):
            model = VisionTransformer(shape, size)
            if source:
                load_backbone(model, open_pretrained(source))
            result[f"knn_{name}"] = top1(model, images, labels)
            print(name, result[f"knn_{name}"], flush=True)
    shapes = {"steps": words.steps, "images": Path(words.images).name, "train": TRAIN, "test": TEST}
    figures = {**shapes, **result, "cpu_seconds": round(time.process_time())}
    record("pretrain/released_weights", figures, packages=["torch", "transformers", "timm"])


if __name__ == "__main__":
    main()
