"""The image pipeline that DINOv2 published, on one thread: PIL's decoder and torchvision's first transforms.

Written from section B.1 of the paper (arXiv 2304.07193) and the transforms that its code names: every crop is cut from
the PIL image, coloured, blurred and normalised by the worker. Needs Pillow and torchvision only.
Started by benchmarks/pretrain/data_path.py as `python -m benchmarks.peers.dinov2_pipeline FOLDER`.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from benchmarks.turns import Meter
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

LOCALS = 8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def view(size: int, scale: tuple[float, float], blur: float, solarize: float) -> transforms.Compose:
    """One crop's transforms; `blur` and `solarize` are probabilities."""
    jitter = transforms.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    steps = [
        transforms.RandomResizedCrop(size, scale=scale, interpolation=InterpolationMode.BICUBIC),
        transforms.RandomHorizontalFlip(),
        transforms.RandomApply([jitter], p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.RandomApply([transforms.GaussianBlur(kernel_size=9, sigma=(0.1, 2.0))], p=blur),
        transforms.RandomSolarize(threshold=128, p=solarize),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    return transforms.Compose(steps)


def batches(folder: Path, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Global and local crops of `size` images at a time, crop-major float32, for ever."""
    views = [view(224, (0.32, 1.0), 1.0, 0.0), view(224, (0.32, 1.0), 0.1, 0.2)]
    local_view = view(98, (0.05, 0.32), 0.5, 0.0)
    files = itertools.cycle(sorted(folder.iterdir()))
    while True:
        images = []
        for file in itertools.islice(files, size):
            with Image.open(file) as image:
                images.append(image.convert("RGB"))
        global_crops = torch.stack([transform(image) for transform in views for image in images])
        yield global_crops, torch.stack([local_view(image) for _ in range(LOCALS) for image in images])


def main() -> None:
    """Time `--steps` batches."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8)
    given = parser.parse_args()
    torch.set_num_threads(1)
    made = batches(given.folder, given.batch)
    with Meter() as whole:  # memory that the first batch took is kept for those that follow
        next(made)
        with Meter() as meter:
            for _ in range(given.steps):
                global_crops, local_crops = next(made)
    assert global_crops.shape == (2 * given.batch, 3, 224, 224)
    assert local_crops.shape == (LOCALS * given.batch, 3, 98, 98)
    print(json.dumps({"images": given.steps * given.batch, **meter.figures, "peak_mib": whole.figures["peak_mib"]}))


if __name__ == "__main__":
    main()
