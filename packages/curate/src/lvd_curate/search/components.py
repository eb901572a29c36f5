"""Connected components of the graph of copies (scipy's union-find, batch by batch)."""

from collections.abc import Iterable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def label_components(count: int, edges: np.ndarray) -> np.ndarray:
    """Return one label per node, the lowest node index of its component; edges int64 [E, 2], labels int64 [count]."""
    graph = coo_array((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    lowest = np.full(labels.max(initial=-1) + 1, count, dtype=np.int64)
    np.minimum.at(lowest, labels, np.arange(count))
    return lowest[labels]


def label_components_from(count: int, pieces: Iterable[np.ndarray], batch_edges: int) -> np.ndarray:
    """Return the labels that `label_components` would, for edges in pieces int64 [E, 2] that need not fit in memory.

    About `batch_edges` edges are merged together. Each batch joins trees of one spanning forest, kept as the parent of
    every node, so scipy, which counts nodes in 32 bits, only ever sees the roots that one batch touches.
    """
    parents = np.arange(count, dtype=np.int64)  # a root is its own parent and the lowest node of its tree
    waiting: list[np.ndarray] = []
    for piece in pieces:
        for start in range(0, len(piece), batch_edges):
            waiting.append(piece[start : start + batch_edges])
            if sum(map(len, waiting)) >= batch_edges:
                merge_trees(parents, np.concatenate(waiting))
                waiting = []
    if waiting:
        merge_trees(parents, np.concatenate(waiting))
    return find_roots(parents, parents)


def merge_trees(parents: np.ndarray, edges: np.ndarray) -> None:
    """Hang the trees that these edges join under the lowest of their roots, in place."""
    roots = find_roots(parents, edges)
    parents[edges] = roots
    touched, places = np.unique(roots, return_inverse=True)
    labels = label_components(len(touched), places.reshape(-1, 2))
    parents[touched] = touched[labels]


def find_roots(parents: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return the root of each node's tree."""
    while True:
        above = parents[nodes]
        if np.array_equal(above, nodes):
            return above
        nodes = above
