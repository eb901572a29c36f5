import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lvd_curate.search.components import label_components

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


def test_a_chain_is_one_component() -> None:
    nodes = np.arange(1000)
    assert not label_components(1000, np.stack([nodes[:-1], nodes[1:]], axis=1)[::-1]).any()


def test_no_nodes_no_labels() -> None:
    nothing = np.empty((0, 2), dtype=np.int64)
    assert len(label_components(0, nothing)) == 0
    assert label_components(3, nothing).tolist() == [0, 1, 2]
