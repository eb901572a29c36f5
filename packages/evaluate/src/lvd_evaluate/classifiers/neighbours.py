"""Nearest neighbours of unit vectors and their weighted vote (Wu et al. 2018, arXiv 1805.01978)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lvd_evaluate.progress import track

QUERY_CHUNK = 1024  # test images whose similarities are held at once
TRAIN_CHUNK = 65536  # train images likewise: together 256 MB
TILE = 2048  # train images per matrix product: few enough that the maxima are read from the processor's cache
BLOCKS = (64, 32)  # similarities that one maximum stands for: where few neighbours are wanted, and where many
FEW = 32  # neighbours below which larger blocks leave less to look at: fewer maxima, not many more candidates


def nearest(
    queries: Tensor, gallery: Tensor, k: int, device: torch.device, *, skip_self: bool = False
) -> tuple[Tensor, Tensor]:
    """Inner products and row numbers [Q, k], best first, of the k gallery rows nearest to each query.

    Args:
        queries: float32 [Q, D], unit length.
        gallery: float32 [N, D], unit length, N >= k.
        k: neighbours per query.
        device: where the products are computed, in float32: a quarter of fp16 similarities are ties.
        skip_self: queries and gallery are the same rows, N > k, and none is its own neighbour.
    """
    similarities, indices = [], []
    tiles = -(-min(len(gallery), TRAIN_CHUNK) // TILE)
    memory = _large_empty(tiles * min(len(queries), QUERY_CHUNK) * TILE, device)
    with track("neighbours", len(queries), "images") as advance:
        for first in range(0, len(queries), QUERY_CHUNK):
            chunk = queries[first : first + QUERY_CHUNK].to(device)
            for start in range(0, len(gallery), TRAIN_CHUNK):
                part = gallery[start : start + TRAIN_CHUNK].to(device)
                found, place = _nearest_of_part(chunk, part, k, memory, first - start if skip_self else None)
                if start == 0:
                    best, rows = found, place
                    continue
                best, rows = torch.cat([best, found], dim=1), torch.cat([rows, place + start], dim=1)
                best, order = best.topk(min(k, best.shape[1]))
                rows = rows.gather(1, order)
            similarities.append(best.cpu())
            indices.append(rows.cpu())
            advance(len(chunk))
    return torch.cat(similarities), torch.cat(indices)


def _large_empty(count: int, device: torch.device) -> Tensor:
    """Float32 [count]; on a CPU from numpy, which asks for huge pages: fresh small ones cost a quarter of a product."""
    return torch.from_numpy(np.empty(count, np.float32)) if device.type == "cpu" else torch.empty(count, device=device)


def _nearest_of_part(queries: Tensor, part: Tensor, k: int, memory: Tensor, own: int | None) -> tuple[Tensor, Tensor]:
    """Best k of a part of the gallery; `own` is the row there that the first query is itself, if any is.

    The k largest similarities lie in the k blocks with the largest maxima: only these are looked into.
    """
    count, tiles, block = len(queries), part.split(TILE), BLOCKS[0] if k < FEW else BLOCKS[1]
    scores = memory[: len(tiles) * count * TILE].view(len(tiles), count, TILE)
    scores[-1, :, len(tiles[-1]) :] = -torch.inf
    maxima = queries.new_empty(count, len(tiles), TILE // block)
    order = torch.arange(count, device=queries.device)
    for number, tile in enumerate(tiles):
        torch.mm(queries, tile.T, out=scores[number, :, : len(tile)])
        if own is not None:
            column = order + own - number * TILE
            here = (column >= 0) & (column < len(tile))
            scores[number, order[here], column[here]] = -torch.inf
        torch.amax(scores[number].unflatten(1, (-1, block)), dim=2, out=maxima[:, number])
    k = min(k, len(part))
    blocks = maxima.flatten(1).topk(min(k, maxima[0].numel()), sorted=False).indices  # [q, b]
    tile_of, place = blocks // (TILE // block), blocks % (TILE // block)
    lines = (tile_of * count + order[:, None]) * (TILE // block) + place
    candidates = scores.view(-1, block).index_select(0, lines.flatten()).view(count, -1)  # [q, b * block]
    best, inside = candidates.topk(k)
    return best, blocks.gather(1, inside // block) * block + inside % block


def vote(
    similarity: Tensor, labels: Tensor, neighbours: list[int], num_classes: int, temperature: float
) -> list[Tensor]:
    """Predicted classes, int64 [Q], for each k; a neighbour's vote weighs exp(similarity / temperature).

    Args:
        similarity: float32 [Q, K], best first.
        labels: int64 [Q, K], classes of the neighbours.
        neighbours: values of k, each at most K.
        num_classes: classes of the task.
        temperature: above 0; small values trust the nearest most.
    """
    weights = (similarity / temperature).softmax(dim=1)  # the common factor changes no argmax and cannot overflow
    predictions = []
    for k in neighbours:
        scores = weights.new_zeros(len(weights), num_classes).scatter_add_(1, labels[:, :k], weights[:, :k])
        predictions.append(scores.argmax(dim=1))
    return predictions


def unit(features: Tensor) -> Tensor:
    """Rows [N, D] as float32 of length 1."""
    return F.normalize(features.float(), dim=1)
