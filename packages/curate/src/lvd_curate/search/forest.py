"""At which similarity images part: the maximum spanning forest of the graph of copies.

Links above any threshold join the same images as the forest's links above it, and the forest has fewer links than there
are images. So one look at all links tells what every higher threshold would have done. Links come in pieces that need
not fit in memory; scipy counts nodes in 32 bits, so at most 2,147,483,647 images may have copies.
"""

from collections.abc import Iterable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from lvd_curate.search.components import label_components

Links = tuple[np.ndarray, np.ndarray]  # edges int64 [E, 2], similarities float32 [E]


def span_forest(pieces: Iterable[Links], batch_edges: int) -> Links:
    """Return the maximum spanning forest of links in pieces that need not fit in memory; a pair may come twice."""
    forest: Links = (np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.float32))
    waiting = [forest]
    for piece in pieces:
        waiting.append(piece)
        if sum(len(edges) for edges, _ in waiting) >= batch_edges + len(forest[0]):
            forest = reduce_links(waiting)
            waiting = [forest]
    return reduce_links(waiting)


def reduce_links(parts: list[Links]) -> Links:
    """Return the maximum spanning forest of all these links."""
    edges, similarities = (np.concatenate(column) for column in zip(*parts, strict=True))
    nodes, places = np.unique(edges, return_inverse=True)
    pairs = np.sort(places.reshape(-1, 2), axis=1)
    order = np.lexsort((-similarities, pairs[:, 1], pairs[:, 0]))
    pairs, first = np.unique(pairs[order], axis=0, return_index=True)
    apart = pairs[:, 0] != pairs[:, 1]
    pairs, best = pairs[apart], similarities[order][first][apart].astype(np.float64)
    distances = coo_array((2.0 - best, (pairs[:, 0], pairs[:, 1])), shape=(len(nodes), len(nodes)))
    tree = minimum_spanning_tree(distances.tocsr()).tocoo()
    kept = np.stack([nodes[tree.row], nodes[tree.col]], axis=1).astype(np.int64)
    return kept, (2.0 - tree.data).astype(np.float32)


def label_forest(count: int, forest: Links) -> np.ndarray:
    """Return one label per node, the lowest node of its tree, int64 [count]."""
    touched, places = np.unique(forest[0], return_inverse=True)
    labels = np.arange(count, dtype=np.int64)
    labels[touched] = touched[label_components(len(touched), places.reshape(-1, 2))]
    return labels


def find_falls(count: int, forest: Links) -> np.ndarray:
    """Return the similarity below which each node joins a lower one, float32 [count]; NaN for a tree's lowest node.

    A threshold t leaves as many components as nodes whose value is NaN or at most t.
    """
    falls = np.full(count, np.nan, dtype=np.float32)
    roots: dict[int, int] = {}

    def find(node: int) -> int:
        while (above := roots.get(node, node)) != node:
            roots[node] = roots.get(above, above)
            node = above
        return node

    edges, similarities = forest
    for place in np.lexsort((edges[:, 1], edges[:, 0], -similarities)):
        low, high = sorted(find(int(node)) for node in edges[place])
        roots[high] = low
        falls[high] = similarities[place]
    return falls
