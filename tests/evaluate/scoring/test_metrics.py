import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from lvd_evaluate.scoring.metrics import group_accuracy, groups_of


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_both_metrics_equal_scikit_learn(pairs):
    import warnings

    labels, predictions = (np.array(column) for column in zip(*pairs, strict=True))
    correct = labels == predictions
    assert np.isclose(group_accuracy(correct, groups_of("top1", labels)), accuracy_score(labels, predictions))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of predicted classes that never occur
        expected = balanced_accuracy_score(labels, predictions)
    assert np.isclose(group_accuracy(correct, groups_of("mean_class", labels)), expected)
