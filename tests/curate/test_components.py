import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lvd_curate.components import label_components


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))))
    )
)
def test_labels_are_the_lowest_member_reached(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = graph
    expected = list(range(count))
    for _ in range(count):  # plain relaxation: pass the lowest label along every edge until nothing changes
        for left, right in edges:
            expected[left] = expected[right] = min(expected[left], expected[right])
    labels = label_components(count, np.array(edges, dtype=np.int64).reshape(-1, 2))
    assert labels.tolist() == expected


def test_no_nodes_no_labels() -> None:
    assert len(label_components(0, np.empty((0, 2), dtype=np.int64))) == 0
