import numpy as np
import pytest

from lvd_evaluate.reporting.classes import class_differences, class_values, confusions
from lvd_evaluate.reporting.tables import build_tables


def _evidence(folder, run, **arrays):
    (folder / "predictions").mkdir(exist_ok=True)
    np.savez(folder / "predictions" / f"{run}.npz", **arrays)


@pytest.fixture
def pair(make_row, make_comparison):
    fields = {"metric": "miou", "n_classes": 3, "setting": {"head": "linear"}}
    ours = make_row("ours", "segmentation", 0.6, comparisons=[make_comparison("pixels", 0.3, "better")], **fields)
    return [ours, make_row("pixels", "segmentation", 0.3, **fields)]


def test_intersection_over_union_of_classes_minus_the_baselines(tmp_path, pair):
    shares = {"ours-segmentation": [[8, 2, 0], [10, 4, 0]], "pixels-segmentation": [[1, 3, 0], [10, 4, 0]]}
    for run, (numerators, denominators) in shares.items():
        halves = [np.array([row, row], dtype=float) / 2 for row in (numerators, denominators)]
        names = {"numerators miou head=linear": halves[0], "denominators miou head=linear": halves[1]}
        _evidence(tmp_path, run, classes=np.array(["road", "<sky>", "tree"]), **names)
    (found,) = class_differences(build_tables(pair)[0], tmp_path)
    assert found.baseline == "pixels"
    assert found.classes == ["road", "<sky>"]  # the class that never occurs says nothing
    assert found.differences == pytest.approx([0.7, -0.25])


def test_classes_of_predictions_have_shares_of_right_ones(tmp_path, make_row):
    row = make_row("ours", "knn", 0.5, n_classes=3, setting={"k": 1})
    _evidence(tmp_path, row.run, label=np.array([0, 0, 1]), **{"prediction k=1": np.array([0, 2, 1])})
    values = class_values(row, tmp_path)
    assert values[:2].tolist() == [0.5, 1.0]
    assert np.isnan(values[2])


def test_without_evidence_or_classes_nothing_is_said(tmp_path, pair, make_row):
    assert class_differences(build_tables(pair)[0], tmp_path) == []
    row = make_row("ours", "depth", 0.5, metric="rmse")
    _evidence(tmp_path, row.run, **{"numerators rmse ": np.ones((4, 1)), "denominators rmse ": np.ones((4, 1))})
    assert class_values(row, tmp_path) is None


def test_the_commonest_mistakes_are_named_by_class(tmp_path, make_row):
    row = make_row("ours", "knn", 0.5, n_classes=3, setting={"k": 1})
    labels, predictions = np.array([0, 0, 0, 1, 2]), np.array([1, 1, 0, 1, 0])
    _evidence(
        tmp_path, row.run, label=labels, classes=np.array(["owl", "jay", "kite"]), **{"prediction k=1": predictions}
    )
    (found,) = confusions(build_tables([row])[0], tmp_path)
    assert [(pair.label, pair.prediction, pair.count) for pair in found.pairs] == [
        ("owl", "jay", 2),
        ("kite", "owl", 1),
    ]
    assert confusions(build_tables([row])[0], tmp_path / "none") == []
