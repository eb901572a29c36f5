"""Sharing images out among those who ask for them: nobody gets what another is more like."""

import numpy as np

from lvd_curate.search.pairs import Pairs


def share_out(pairs: Pairs, wanted: np.ndarray, num_images: int) -> np.ndarray:
    """Give every image (`second`) to one seed (`first`) until each seed has what it wants; return positions in `pairs`.

    Going down all pairs by similarity, seed and image, one is taken when its image is free and its seed still wants.
    Here all pairs are taken at once that are the best left for their image and among the best left for their seed.
    """
    order = np.lexsort((pairs.second, pairs.first, -pairs.similarity))
    free, left = np.ones(num_images, dtype=bool), wanted.copy()
    given = [np.empty(0, dtype=np.int64)]
    while len(order):
        images, seeds = pairs.second[order], pairs.first[order]
        take = (count_up(images) == 0) & (count_up(seeds) < left[seeds])
        given.append(order[take])
        free[images[take]] = False
        left -= np.bincount(seeds[take], minlength=len(left))
        order = order[free[images] & (left[seeds] > 0)]
    return np.concatenate(given)


def count_up(values: np.ndarray) -> np.ndarray:
    """Return how often each value has come before, int64 [N]."""
    order = np.argsort(values, kind="stable")
    ranked = np.empty(len(values), dtype=np.int64)
    ranked[order] = np.arange(len(values)) - np.searchsorted(values[order], values[order])
    return ranked
