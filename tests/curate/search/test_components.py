import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lvd_curate.search.components import label_components, label_components_from

graphs = st.integers(1, 30).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))))
)


def find_lowest_members(count: int, edges: list[tuple[int, int]]) -> list[int]:
    lowest = list(range(count))
    for _ in range(count):  # plain relaxation: pass the lowest label along every edge until nothing changes
        for left, right in edges:
            lowest[left] = lowest[right] = min(lowest[left], lowest[right])
    return lowest


@given(graphs)
def test_labels_are_the_lowest_member_reached(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = graph
    labels = label_components(count, np.array(edges, dtype=np.int64).reshape(-1, 2))
    assert labels.tolist() == find_lowest_members(count, edges)


@given(graphs, st.integers(1, 7), st.integers(1, 5))
def test_edges_in_pieces_and_batches_give_the_same_labels(
    graph: tuple[int, list[tuple[int, int]]], batch_edges: int, piece: int
) -> None:
    count, edges = graph
    rows = np.array(edges, dtype=np.int64).reshape(-1, 2)
    pieces = (rows[start : start + piece] for start in range(0, len(rows), piece))
    labels = label_components_from(count, pieces, batch_edges)
    assert labels.dtype == np.int64
    assert labels.tolist() == find_lowest_members(count, edges)


def test_a_chain_that_arrives_backwards_is_one_component() -> None:
    nodes = np.arange(1000)
    chain = np.stack([nodes[:-1], nodes[1:]], axis=1)[::-1]
    assert not label_components_from(1000, np.split(chain, 37 * np.arange(1, 27)), 50).any()


def test_no_nodes_no_labels() -> None:
    nothing = np.empty((0, 2), dtype=np.int64)
    assert len(label_components(0, nothing)) == len(label_components_from(0, [nothing], 5)) == 0
    assert label_components_from(3, [], 5).tolist() == [0, 1, 2]
