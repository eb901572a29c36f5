import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from lvd_evaluate.reporting.confusions import ConfusedPair, confusion_pairs

CLASSES = ["cat", "dog", "<owl>"]


def test_the_commonest_mistakes_come_first():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
    predictions = np.array([1, 1, 0, 2, 1, 0, 2, 0, 0])
    assert confusion_pairs(labels, predictions, CLASSES, 3) == [
        ConfusedPair("<owl>", "cat", 2, 2 / 3),
        ConfusedPair("cat", "dog", 2, 0.5),
        ConfusedPair("dog", "cat", 1, 0.5),
    ]


def test_without_a_mistake_or_a_label_there_is_no_pair():
    assert confusion_pairs(np.array([0, 1]), np.array([0, 1]), CLASSES) == []
    assert confusion_pairs(np.array([-1, 1]), np.array([0, 1]), CLASSES) == []


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_counts_are_those_of_the_confusion_matrix(pairs):
    labels, predictions = np.array(pairs, dtype=np.int64).T
    matrix = confusion_matrix(labels, predictions, labels=[0, 1, 2])
    found = confusion_pairs(labels, predictions, CLASSES, 100)
    assert {(CLASSES.index(pair.label), CLASSES.index(pair.prediction)): pair.count for pair in found} == {
        (row, column): count for (row, column), count in np.ndenumerate(matrix) if row != column and count
    }
    assert [pair.count for pair in found] == sorted((pair.count for pair in found), reverse=True)
    for pair in found:
        assert pair.share == pair.count / matrix[CLASSES.index(pair.label)].sum()
