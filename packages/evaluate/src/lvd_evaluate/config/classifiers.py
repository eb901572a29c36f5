"""Settings of classifiers on cached features."""

from __future__ import annotations

from dataclasses import dataclass

from lvd_evaluate.config.checks import require_positive
from lvd_evaluate.errors import InputError

AUGMENT = ("auto", "true", "false")
COMBINE = ("average", "concatenate")
ROBUSTNESS_HEADS = ("linear", "knn")
CORRUPTIONS = ("noise", "blur", "contrast", "jpeg")


@dataclass(frozen=True, kw_only=True)
class KnnConfig:
    """Weighted nearest-neighbour vote; defaults of DINOv2's released evaluation."""

    neighbours: tuple[int, ...] = (10, 20, 100, 200)  # values of k, one row each; those above n_train are dropped
    headline: int = 20  # the k that tables show; 20 is the field's convention, it is not chosen on any data
    temperature: float = 0.07  # weight of a neighbour = exp(cosine / temperature)
    leave_one_out: bool = False  # one set of images, each classified by all others

    def __post_init__(self) -> None:
        if not self.neighbours or min(self.neighbours) < 1:
            raise InputError(f"knn.neighbours={list(self.neighbours)}: at least one k, each 1 or more")
        if not self.temperature > 0:
            raise InputError(f"knn.temperature={self.temperature}: must be above 0")


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """Grid of linear heads on frozen features; defaults of DINOv2's released evaluation unless said otherwise."""

    learning_rates: tuple[float, ...] = (
        *(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3),
        *(2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1),
    )  # base rates, times batch_size / 256; the paper's appendix B.3 prints another 13, the released code has these
    layers: tuple[int, ...] = (1, 4)  # class tokens of the last n blocks, concatenated
    avgpool: tuple[bool, ...] = (False, True)  # whether the mean patch token of the last block is appended
    augment: str = "auto"  # whether heads see augmented views, encoded as they come: true, false; auto: if dinov2
    batch_size: int | None = None  # images; null: 128 on cached features (one device of the released code), 1024 on
    # views as in the paper, there halved (not below 16) while `epochs` passes give fewer than `min_steps` updates
    epochs: float = 10.0  # passes over train, as in the paper (12,500 updates of 1,024 ImageNet images)
    min_steps: int = 500  # updates at least: ten passes over a thousand images would train nothing; our own floor
    save_every: int = 250  # updates on views between saved states: what a kill can cost
    momentum: float = 0.9
    init_std: float = 0.01  # of the weights; biases start at 0
    holdout: float = 0.1  # share of train that protocol `clean` chooses the head on

    def __post_init__(self) -> None:
        for key in ("learning_rates", "layers", "avgpool"):
            if not getattr(self, key):
                raise InputError(f"linear.{key} is empty: give at least one value")
        if min(self.layers) < 1:
            raise InputError(f"linear.layers={list(self.layers)}: each 1 or more")
        if min(self.learning_rates) <= 0:
            raise InputError(f"linear.learning_rates={list(self.learning_rates)}: each above 0")
        for key in ("batch_size", "min_steps", "save_every"):
            require_positive(f"linear.{key}", getattr(self, key))
        if self.augment.lower() not in AUGMENT:
            raise InputError(f"linear.augment={self.augment}: choose one of {', '.join(AUGMENT)}")
        if not 0 < self.holdout < 1:
            raise InputError(f"linear.holdout={self.holdout}: a share of train between 0 and 1")
        if self.epochs < 0:
            raise InputError(f"linear.epochs={self.epochs}: 0 or more")


@dataclass(frozen=True, kw_only=True)
class LogisticConfig:
    """L2-penalised logistic regression over a grid of C; defaults of DINOv2's released evaluation unless said."""

    min_log10_c: float = -6.0  # C weighs the summed cross-entropy against half the squared norm of the weights
    max_log10_c: float = 5.0
    num_c: int = 45  # values of C, evenly spaced in log10
    tolerance: float = 1e-8  # estimated excess of the objective, as a share of it; ours: warm starts make it cheap
    max_iterations: int = 1000  # per C
    holdout: float = 0.1  # share of train that C is chosen on

    def __post_init__(self) -> None:
        if not -30 <= self.min_log10_c <= self.max_log10_c <= 30:
            raise InputError(
                f"logistic.min_log10_c={self.min_log10_c}, logistic.max_log10_c={self.max_log10_c}: "
                "between -30 and 30, the smaller first"
            )
        for key in ("num_c", "max_iterations"):
            require_positive(f"logistic.{key}", getattr(self, key))
        if not 0 < self.tolerance < 1:
            raise InputError(f"logistic.tolerance={self.tolerance}: above 0 and below 1")
        if not 0 < self.holdout < 1:
            raise InputError(f"logistic.holdout={self.holdout}: a share of train between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class FewShotConfig:
    """What can be learned from a few train images of each class, drawn anew in each of several tries."""

    per_class: tuple[int, ...] = (1, 5, 10)  # train images per class; ours, the released evaluation asks for the list
    tries: int = 5  # draws whose results are averaged; ours, the released default is one
    folds: int = 5  # that `logistic` chooses C on, at most; no more than there are images per class

    def __post_init__(self) -> None:
        if not self.per_class or min(self.per_class) < 1:
            raise InputError(
                f"few_shot.per_class={list(self.per_class)}: at least one number of images, each 1 or more"
            )
        require_positive("few_shot.tries", self.tries)
        if self.folds < 2:
            raise InputError(f"few_shot.folds={self.folds}: 2 or more")


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Nearest images by cosine similarity, nothing learned (DINOv2, arXiv 2304.07193, 7.3)."""

    recall: tuple[int, ...] = (1, 5)  # ranks: share of queries with a right image among the first k

    def __post_init__(self) -> None:
        if not self.recall or min(self.recall) < 1:
            raise InputError(f"retrieval.recall={list(self.recall)}: at least one rank, each 1 or more")


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Classification of clips by the linear grid (DINOv2, arXiv 2304.07193, 7.2): the rest is `linear`'s."""

    frames: int = 8  # evenly spaced ones of each clip, as in the paper
    combine: str = "average"  # features of a clip's frames: average (Kinetics-400, UCF101) or concatenate (SSv2)

    def __post_init__(self) -> None:
        require_positive("video.frames", self.frames)
        if self.combine not in COMBINE:
            raise InputError(f"video.combine={self.combine}: choose one of {', '.join(COMBINE)}")


@dataclass(frozen=True, kw_only=True)
class RobustnessConfig:
    """Further test sets, `--data NAME=PATH`, read by the heads of the base task: the rest is `linear`'s and `knn`'s."""

    heads: tuple[str, ...] = ("linear", "knn")
    restrict: bool = True  # only classes that occur in a set may be answered (ImageNet-A, -R, ObjectNet)
    corruption: str = "corruption"  # columns that make a set one of corruptions: name, severity 1 to 5
    severity: str = "severity"
    corruptions: tuple[str, ...] = ()  # made of the base test images, each at five severities: noise, blur, contrast,
    # jpeg; a pass over test for each of the twenty

    def __post_init__(self) -> None:
        for key, known in (("heads", ROBUSTNESS_HEADS), ("corruptions", CORRUPTIONS)):
            unknown = sorted(set(getattr(self, key)) - set(known))
            if unknown:
                raise InputError(f"robustness.{key}: no {unknown[0]}; choose among {', '.join(known)}")
        if not self.heads:
            raise InputError(f"robustness.heads is empty: give {' or '.join(ROBUSTNESS_HEADS)}")
