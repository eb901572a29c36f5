import numpy as np
import pytest
import torch

from lvd_evaluate.contracts import VOID
from lvd_evaluate.dense.segmentation_metrics import count_pixels, mean_iou, measure_pixels


def value(measurement):
    """As contracts.Measurement says it."""
    top, bottom = measurement.numerators.sum(axis=0), measurement.denominators.sum(axis=0)
    return float((top[bottom > 0] / bottom[bottom > 0]).mean())


def oracle(pairs, num_classes):
    """The confusion matrix of the whole set, by bincount; then the mean over classes with a union."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for prediction, target in pairs:
        valid = target != VOID
        index = target[valid] * num_classes + prediction[valid]
        matrix += np.bincount(index, minlength=num_classes**2).reshape(num_classes, num_classes)
    right = np.diag(matrix).astype(np.float64)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - right
    truth = matrix.sum(axis=1)
    return (
        np.mean(right[union > 0] / union[union > 0]),
        right.sum() / matrix.sum(),
        np.mean(right[truth > 0] / truth[truth > 0]),
    )


def pairs(count=7, num_classes=6):
    generator = np.random.default_rng(0)
    for number in range(count):
        target = generator.integers(-1, num_classes - 2, (12 + number, 9))  # the last class never occurs
        prediction = np.where(generator.random(target.shape) < 0.6, np.maximum(target, 0), 1)
        prediction[0, 0] = num_classes - 2 if number == 3 else prediction[0, 0]  # called so once, never true
        yield prediction, target


def test_values_equal_the_confusion_matrix_of_the_whole_set():
    counts = np.stack([count_pixels(torch.tensor(p), torch.tensor(t), 6) for p, t in pairs()])
    assert counts.dtype == np.int64
    found = [value(measurement) for measurement in measure_pixels(counts)]
    assert found == pytest.approx(oracle(pairs(), 6), abs=1e-12)
    assert [m.metric for m in measure_pixels(counts)] == ["miou", "pixel_accuracy", "class_accuracy"]
    assert float(mean_iou(counts.sum(axis=0))) == pytest.approx(found[0], abs=1e-12)
    per_image = np.mean([oracle([pair], 6)[0] for pair in pairs()])
    assert abs(per_image - found[0]) > 0.005  # the mean over images is another number


def test_absent_classes_leave_the_mean():
    target = torch.tensor([[0, 0, 1, 1]])
    counts = count_pixels(torch.tensor([[0, 0, 1, 0]]), target, 40)[None]
    assert value(measure_pixels(counts)[0]) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_counts_beyond_what_float32_can_count():
    many = 2**24
    counts = np.zeros((3, 2, 3), np.int64)
    counts[:, 0] = [many, many, many + 1]  # float32 would lose every one of the three misses
    counts[:, 1] = [many, many + 1, many]
    miou = measure_pixels(counts)[0]
    assert miou.numerators.dtype == np.float64
    assert value(miou) == many / (many + 1)
    assert value(miou) < 1


def test_void_pixels_count_for_nobody():
    target = torch.tensor([[VOID, 1], [VOID, 1]])
    counts = count_pixels(torch.tensor([[0, 1], [1, 1]]), target, 2)
    assert counts.tolist() == [[0, 0, 0], [2, 2, 2]]
