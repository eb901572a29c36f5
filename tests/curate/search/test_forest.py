"""The forest knows what every threshold would have done."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvd_curate.search.components import label_components
from lvd_curate.search.forest import find_falls, label_forest, span_forest

NODES = 12


@st.composite
def graphs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    count = draw(st.integers(0, 40))
    node = st.integers(0, NODES - 1)
    edges = draw(st.lists(st.tuples(node, node), min_size=count, max_size=count))
    grades = draw(st.lists(st.integers(50, 60), min_size=count, max_size=count))  # few values: many ties
    return np.array(edges, dtype=np.int64).reshape(-1, 2), (np.array(grades) / 60).astype(np.float32)


@given(graphs(), st.integers(1, 7), st.integers(1, 9))
def test_every_higher_threshold_gives_the_components_of_all_links(
    graph: tuple[np.ndarray, np.ndarray], size: int, batch: int
) -> None:
    edges, similarities = graph
    pieces = [(edges[at : at + size], similarities[at : at + size]) for at in range(0, len(edges), size)]
    forest = span_forest(pieces, batch)
    assert len(forest[0]) < NODES
    assert np.array_equal(label_forest(NODES, forest), label_components(NODES, edges))
    falls = find_falls(NODES, forest)
    assert np.array_equal(np.isnan(falls), label_components(NODES, edges) == np.arange(NODES))
    for threshold in np.unique(similarities):
        labels = label_components(NODES, edges[similarities > threshold])
        assert (falls > threshold).sum() == NODES - len(np.unique(labels))


def test_nobody_falls_without_links() -> None:
    assert np.isnan(find_falls(3, span_forest([], 10))).all()


def test_a_chain_parts_at_its_weakest_link() -> None:
    forest = span_forest([(np.array([[0, 1], [1, 2], [0, 2]]), np.array([0.9, 0.7, 0.65], dtype=np.float32))], 10)
    assert find_falls(3, forest)[1:].tolist() == pytest.approx([0.9, 0.7])
