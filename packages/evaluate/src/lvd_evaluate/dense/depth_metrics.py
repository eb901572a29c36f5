"""Metrics of one depth map, and which of its pixels count (Eigen et al., arXiv 1406.2283; Garg et al., 1603.04992)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lvd_evaluate.contracts import Measurement


@dataclass(frozen=True)
class Metric:
    """How a metric is read."""

    unit: str  # see contracts.Measurement
    higher_is_better: bool = False


METRICS = {
    "rmse": Metric("m"),
    "abs_rel": Metric("1"),
    "sq_rel": Metric("m"),
    "rmse_log": Metric("1"),
    "log10": Metric("1"),
    "silog": Metric("1"),
    "delta1": Metric("", higher_is_better=True),
    "delta2": Metric("", higher_is_better=True),
    "delta3": Metric("", higher_is_better=True),
}
# Rectangles that count, as shares of height and width: top, bottom, left, right.
CROPS = {
    "none": (0.0, 1.0, 0.0, 1.0),
    "eigen": (45 / 480, 471 / 480, 41 / 640, 601 / 640),  # of NYU, where it is whole pixels
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),  # of KITTI
}


def valid_pixels(truth: np.ndarray, min_depth: float, max_depth: float, crop: str) -> np.ndarray:
    """Which pixels of a map in metres [H, W] count: strictly between the limits, inside the crop; bool [H, W]."""
    height, width = truth.shape
    top, bottom, left, right = CROPS[crop]
    inside = np.zeros(truth.shape, dtype=bool)
    inside[
        int(top * height + 1e-6) : int(bottom * height + 1e-6), int(left * width + 1e-6) : int(right * width + 1e-6)
    ] = True
    return inside & (truth > min_depth) & (truth < max_depth)


def compute_depth_metrics(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """METRICS of one image, float64 [9], from metres [P] above 0 at its valid pixels; NaN where there are none."""
    if not len(truth):
        return np.full(len(METRICS), np.nan)
    predicted, true = prediction.astype(np.float64), truth.astype(np.float64)
    error, log_error = predicted - true, np.log(predicted) - np.log(true)
    ratio = np.maximum(predicted / true, true / predicted)
    values = {
        "rmse": np.sqrt(np.mean(error**2)),
        "abs_rel": np.mean(np.abs(error) / true),
        "sq_rel": np.mean(error**2 / true),
        "rmse_log": np.sqrt(np.mean(log_error**2)),
        "log10": np.mean(np.abs(log_error)) / np.log(10),
        "silog": 100 * np.std(log_error),  # in hundredths, as KITTI prints it
        "delta1": np.mean(ratio < 1.25),
        "delta2": np.mean(ratio < 1.25**2),
        "delta3": np.mean(ratio < 1.25**3),
    }
    return np.array([values[name] for name in METRICS])


def to_measurements(values: np.ndarray) -> list[Measurement]:
    """The mean over images of each metric, from values [N, 9]; images without a valid pixel (NaN) do not count."""
    known = ~np.isnan(values[:, :1])  # [N, 1]
    return [
        Measurement(
            metric=name,
            numerators=np.where(known, values[:, [column]], 0.0),
            denominators=known.astype(np.float64),
            higher_is_better=metric.higher_is_better,
            unit=metric.unit,
        )
        for column, (name, metric) in enumerate(METRICS.items())
    ]
