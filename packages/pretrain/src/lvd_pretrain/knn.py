"""A k-NN classifier over a few labelled images, to see during a run whether features grow useful.

Each image is classified by its nearest neighbours among the others (leave one out), so one labelled set is enough. It
guides a run; the measure to publish is that of the evaluation tool, with its separate training and test sets.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as transforms

from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.crops import decode
from lvd_pretrain.errors import InputError
from lvd_pretrain.sources import ImageSource, open_labelled
from lvd_pretrain.vit import VisionTransformer

BATCH = 64


class KnnMonitor:
    """Leave-one-out accuracy of a backbone's cls tokens on `knn.images` images of `knn.path`.

    Raises:
        InputError: the set cannot be opened, has no label column, or fewer images than neighbours.
    """

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config
        settings = config.knn
        source, labels = open_labelled(
            replace(
                config.data, path=settings.path, paths={}, weights={}, split=settings.split, column=settings.column
            ),
            settings.label,
        )
        self.source: ImageSource = source
        # Evenly over the set: labelled sets are often sorted by class.
        self.rows = np.unique(np.linspace(0, len(source) - 1, min(settings.images, len(source))).astype(np.int64))
        self.labels = torch.from_numpy(labels[self.rows])
        if len(self.rows) <= settings.neighbours:
            raise InputError(
                f"knn.path={settings.path}: {len(self.rows)} images for knn.neighbours={settings.neighbours}"
            )

    @torch.no_grad()
    def top1(self, state: dict[str, Tensor], device: torch.device) -> float:
        """Share of images whose neighbours vote for their own label.

        Args:
            state: a backbone's whole weights.
            device: where to compute.
        """
        backbone = VisionTransformer(self.config.model, self.config.crops.global_size).to(device).eval()
        backbone.load_state_dict(state)
        features, kept = [], []
        for start in range(0, len(self.rows), BATCH):
            images, places = self._batch(range(start, min(start + BATCH, len(self.rows))))
            if places:
                features.append(backbone([images.to(device)])[0].cls.float())
                kept += places
        if len(kept) <= self.config.knn.neighbours:
            raise InputError(
                f"knn.path={self.config.knn.path}: only {len(kept)} of {len(self.rows)} images can be read"
            )
        votes = self.config.knn.neighbours, self.config.knn.temperature
        return leave_one_out(torch.cat(features), self.labels[kept].to(device), *votes)

    def _batch(self, places: range) -> tuple[Tensor, list[int]]:
        """Centre crops as the exported preprocessor makes them, and the places of those that could be read."""
        size, augment = self.config.crops.global_size, self.config.augment
        images, kept = [], []
        for place in places:
            try:
                image = decode(self.source.read(int(self.rows[place])))
            except (OSError, ValueError):
                continue
            short = transforms.resize(
                image, [round(size * 256 / 224)], transforms.InterpolationMode.BICUBIC, antialias=True
            )
            images.append(transforms.center_crop(short, [size, size]))
            kept.append(place)
        if not images:
            return torch.empty(0), []
        pixels = torch.stack(images).float() / 255
        return transforms.normalize(pixels, list(augment.mean), list(augment.std)), kept


def leave_one_out(features: Tensor, labels: Tensor, neighbours: int, temperature: float) -> float:
    """Top-1 of k-NN voting with weights exp(cosine / temperature) (DINO, arXiv 2104.14294, appendix F.1).

    Args:
        features: [N, D].
        labels: int64 [N].
        neighbours: k.
        temperature: of the votes.
    """
    points = F.normalize(features, dim=-1)
    _, classes = labels.unique(return_inverse=True)
    hits = 0
    for start in range(0, len(points), 1024):
        rows = slice(start, start + 1024)
        similarity = points[rows] @ points.T  # [n, N]
        similarity[torch.arange(len(similarity)), torch.arange(start, start + len(similarity))] = -torch.inf
        near, index = similarity.topk(neighbours, dim=1)
        votes = similarity.new_zeros(len(similarity), int(classes.max()) + 1)
        votes.scatter_add_(1, classes[index], torch.exp((near - 1) / temperature))
        hits += int((votes.argmax(1) == classes[rows]).sum())
    return hits / len(points)
