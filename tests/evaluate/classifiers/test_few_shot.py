import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lvd_evaluate.classifiers.few_shot import deal_folds, draw_shots, measure_tries, spread_of_tries
from lvd_evaluate.config import FewShotConfig
from lvd_evaluate.errors import InputError


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 6), st.integers(0, 50))
def test_each_class_gives_its_share_or_all_it_has(labels, per_class, attempt):
    labels = np.array(labels)
    rows = draw_shots(labels, per_class, 0, attempt)
    drawn = np.bincount(labels[rows.numpy()], minlength=5)
    assert drawn.tolist() == np.minimum(np.bincount(labels, minlength=5), per_class).tolist()
    assert len(set(rows.tolist())) == len(rows)


def test_what_few_draw_is_among_what_more_draw():
    labels = np.arange(100) % 4
    few, more = (set(draw_shots(labels, n, 3, 1).tolist()) for n in (2, 5))
    assert few < more


def test_tries_and_seeds_draw_others_and_the_same_ones_the_same():
    labels = np.arange(100) % 4
    assert torch.equal(draw_shots(labels, 3, 0, 1), draw_shots(labels, 3, 0, 1))
    assert not torch.equal(draw_shots(labels, 3, 0, 1), draw_shots(labels, 3, 0, 2))
    assert not torch.equal(draw_shots(labels, 3, 0, 1), draw_shots(labels, 3, 1, 1))
    assert not torch.equal(draw_shots(labels, 3, 0, 1), draw_shots(labels, 3, 1, 0))


def test_folds_hold_each_class_evenly():
    labels = np.repeat([0, 1, 2], [10, 5, 2])
    folds = deal_folds(labels, 5)
    assert [np.bincount(folds[labels == label], minlength=5).tolist() for label in range(3)] == [
        [2, 2, 2, 2, 2],
        [1, 1, 1, 1, 1],
        [1, 1, 0, 0, 0],
    ]


def test_measurements_are_means_over_tries_and_resample_images():
    labels = np.array([0, 0, 0, 2])
    tries = [np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])]
    top1, mean_class = measure_tries(tries, labels)
    value = top1.numerators.sum(axis=0) / top1.denominators.sum(axis=0)
    assert value == pytest.approx([np.mean([(t == labels).mean() for t in tries])])
    shares = mean_class.numerators.sum(axis=0) / mean_class.denominators.sum(axis=0)
    assert shares == pytest.approx([0.5, 0.5])  # classes 0 and 2: the one that does not occur is no group
    assert (top1.numerators.shape, mean_class.numerators.shape) == ((4, 1), (4, 2))
    assert top1.numerators[:, 0].tolist() == [1, 0.5, 0, 0.5]


def test_the_spread_is_that_of_the_tries():
    labels = np.zeros(10, dtype=int)
    tries = [(np.arange(10) < wrong).astype(int) for wrong in (2, 4, 6)]
    notes = spread_of_tries(tries, labels)
    assert notes["top1_of_tries"] == pytest.approx([0.8, 0.6, 0.4])
    assert notes["top1_spread"] == pytest.approx(0.2)
    assert spread_of_tries(tries[:1], labels)["top1_spread"] is None


@pytest.mark.parametrize("wrong", [{"per_class": ()}, {"per_class": (0,)}, {"tries": 0}, {"folds": 1}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match=f"few_shot.{next(iter(wrong))}"):
        FewShotConfig(**wrong)
