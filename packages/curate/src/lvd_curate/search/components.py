"""Connected components of a graph (scipy's union-find)."""

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
