"""Every setting of `evaluate` with its default, unit and origin; recipes.py merges them with what the user gave."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lvd_evaluate.config.checks import require_positive, require_sane
from lvd_evaluate.config.classifiers import (
    FewShotConfig,
    KnnConfig,
    LinearConfig,
    LogisticConfig,
    RetrievalConfig,
    RobustnessConfig,
    VideoConfig,
)
from lvd_evaluate.config.data import METRICS, DataConfig, FeaturesConfig
from lvd_evaluate.config.dense import DepthConfig, SegmentationConfig, SegmentationSizes, VisualizeConfig
from lvd_evaluate.errors import InputError

__all__ = [
    "METRICS",
    "DataConfig",
    "DepthConfig",
    "EvaluateConfig",
    "FeaturesConfig",
    "FewShotConfig",
    "KnnConfig",
    "LinearConfig",
    "LogisticConfig",
    "RetrievalConfig",
    "RobustnessConfig",
    "SegmentationConfig",
    "SegmentationSizes",
    "VideoConfig",
    "VisualizeConfig",
]

PROTOCOLS = ("clean", "dinov2")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """All settings of one run."""

    protocol: str = "clean"  # clean: chosen on held-out train, test read once; dinov2: chosen on test, as published
    seed: int = 0  # of head weights, batch order, held-out slice, bootstrap and `untrained:` weights
    bootstrap: int = 10_000  # resamples behind an interval
    data: DataConfig = field(default_factory=DataConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    knn: KnnConfig = field(default_factory=KnnConfig)
    linear: LinearConfig = field(default_factory=LinearConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    robustness: RobustnessConfig = field(default_factory=RobustnessConfig)
    logistic: LogisticConfig = field(default_factory=LogisticConfig)
    few_shot: FewShotConfig = field(default_factory=FewShotConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    depth: DepthConfig = field(default_factory=DepthConfig)
    segmentation: SegmentationConfig = field(default_factory=SegmentationConfig)
    visualize: VisualizeConfig = field(default_factory=VisualizeConfig)

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise InputError(f"protocol={self.protocol}: choose one of {', '.join(PROTOCOLS)}")
        if self.seed < 0:
            raise InputError(f"seed={self.seed}: 0 or more")
        require_positive("bootstrap", self.bootstrap)
        require_sane("", self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML or JSON."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value
