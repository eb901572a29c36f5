"""Every setting of `evaluate` with its default, unit and origin; recipes.py merges them with what the user gave."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lvd_evaluate.errors import InputError

PROTOCOLS = ("clean", "dinov2")
METRICS = ("top1", "mean_class")
PRECISIONS = ("float32", "bfloat16")
SEGMENTATION_VARIANTS = ("linear", "multiscale")
AUGMENT = ("auto", "true", "false")
COMBINE = ("average", "concatenate")
ROBUSTNESS_HEADS = ("linear", "knn")
CORRUPTIONS = ("noise", "blur", "contrast", "jpeg")
DEPTH_HEADS = ("lin.1", "lin.4", "dpt")
DEPTH_REGIONS = ("none", "nyu", "kb")
DEPTH_CROPS = ("none", "eigen", "garg")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What to read from the labelled data, and how large the encoder sees it."""

    image: str = "image"  # column of the images
    label: str = "label"  # column of the labels: class label, integer or text
    metric: str = "top1"  # classification: what tables show, top1 or mean_class (the mean over classes)
    name: str | None = None  # the task's name in the results; null: the folder's or hub id's own
    image_size: int | None = None  # pixels after the centre crop; null: what each encoder's own config says
    crop_ratio: float = 0.875  # crop over the short side before it, 224 of 256; 1 in the paper's logistic regression
    limit_train: int | None = None  # first n images only; null: all. Retrieval: of the database
    limit_test: int | None = None  # retrieval: of the queries
    id: str = "id"  # retrieval: column of the database's ids; without it an image's id is its row number, from 0
    easy: str = "easy"  # retrieval: columns of the queries with lists of database ids; without them relevance is label
    hard: str = "hard"
    junk: str = "junk"  # neither right nor wrong: taken out of the ranking
    box: str | None = "box"  # retrieval: column of the query's box, x0 y0 x1 y1 in pixels, cut out; null: whole image

    clip: str = "frames"  # video: column of the clips, a list of images or an encoded video each
    mask: str = "mask"  # segmentation: column (or folder beside images/) of the masks, a class number per pixel
    void: int = 255  # number of pixels that do not count
    zero_label_is_void: bool = False  # ADE20k: 0 does not count either, 1 is the first class
    classes: tuple[str, ...] = ()  # names of the classes 0, 1, ...; empty: as many as train's masks hold
    depth: str = "depth"  # depth: column (or folder beside images/) of the depth maps; 0 where nothing was read
    depth_scale: float | None = None  # metres per stored number; null: each row's own, in the column named next
    depth_scale_column: str = "depth_scale"

    def __post_init__(self) -> None:
        for key in ("image_size", "limit_train", "limit_test"):
            _require_positive(f"data.{key}", getattr(self, key))
        if not 0 < self.crop_ratio <= 1:
            raise InputError(f"data.crop_ratio={self.crop_ratio}: above 0 and at most 1")
        if self.metric not in METRICS:
            raise InputError(f"data.metric={self.metric}: choose one of {', '.join(METRICS)}")
        if self.image == self.label:
            raise InputError(f"data.image and data.label both name the column '{self.image}'")
        if self.depth_scale is not None and not self.depth_scale > 0:
            raise InputError(f"data.depth_scale={self.depth_scale}: metres per stored number, above 0")


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """How the one clean pass is computed and where it is kept."""

    store: str | None = None  # folder shared by several result folders if given; null: OUT/features
    device: str = "auto"  # auto: cuda if there is one; else any torch device
    precision: str = "float32"  # of the forward pass; bfloat16 = autocast, about twice as fast on recent hardware
    batch_size: int = 64  # images per forward pass; changes no number beyond rounding
    threads: int = 0  # that decode and resize; 0: one per core
    shard_size: int = 1024  # images per shard: what a kill can cost, and what processes share out

    def __post_init__(self) -> None:
        for key in ("batch_size", "shard_size"):
            _require_positive(f"features.{key}", getattr(self, key))
        if self.threads < 0:
            raise InputError(f"features.threads={self.threads}: 0 (one per core) or more")
        if self.precision not in PRECISIONS:
            raise InputError(f"features.precision={self.precision}: choose one of {', '.join(PRECISIONS)}")


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
            _require_positive(f"linear.{key}", getattr(self, key))
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
            _require_positive(f"logistic.{key}", getattr(self, key))
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
        _require_positive("few_shot.tries", self.tries)
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
class DepthConfig:
    """Depth heads on frozen tokens; defaults are DINOv2's for NYU unless said otherwise."""

    heads: tuple[str, ...] = ("lin.1", "lin.4", "dpt")  # one row each; all learn from the same backbone passes
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)  # each head is trained with each; the paper's is the first
    min_depth: float = 1e-3  # metres; truth at or below it does not count
    max_depth: float = 10.0  # metres; KITTI: 80
    bins: int = 256  # of linear heads, evenly spaced
    steps: int = 38_400  # updates: 25 passes over NYU's 24,231 images
    warmup: float = 1 / 3  # share of the steps in which the rate rises; 12,800
    batch_size: int = 16  # images over all processes; the paper gives two a device and no number of devices
    weight_decay: float = 0.01
    clip: float = 35.0  # norm that a head's gradient is cut to
    gradient_weight: float = 0.0  # of the gradient loss; the released one is 0.5 of a term that is always 0
    region: str = "none"  # nyu: train images lose NYU's white border; kb: all lose all but KITTI's lower 352x1216
    crop: tuple[int, ...] = ()  # height, width in pixels trained on; empty: 97 % of the first train image
    short_side: int | None = None  # pixels that images (never truths) are resized to first; null: their own size
    eval_crop: str = "none"  # pixels that count: none, eigen (NYU) or garg (KITTI)
    holdout: float = 0.1  # share of train that protocol `clean` chooses the learning rate on
    save_every: int = 500  # steps: what a kill can cost
    pictures: int = 8  # test images drawn beside truth and prediction
    precision: str = "float32"  # of the backbone's passes; bfloat16 = autocast
    workers: int | None = None  # processes that decode and augment; null: one per core, 8 at most. Changes no number

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"depth.precision={self.precision}: choose one of {', '.join(PRECISIONS)}")
        if self.workers is not None and self.workers < 0:
            raise InputError(f"depth.workers={self.workers}: 0 (none beside the main process) or more")
        if not self.heads or not set(self.heads) <= set(DEPTH_HEADS):
            raise InputError(f"depth.heads={list(self.heads)}: one or more of {', '.join(DEPTH_HEADS)}")
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise InputError(f"depth.learning_rates={list(self.learning_rates)}: at least one, each above 0")
        if not 0 < self.min_depth < self.max_depth:
            raise InputError(f"depth.min_depth={self.min_depth}: above 0 and below depth.max_depth={self.max_depth}")
        for key in ("bins", "steps", "batch_size", "short_side", "save_every"):
            _require_positive(f"depth.{key}", getattr(self, key))
        for key, known in (("region", DEPTH_REGIONS), ("eval_crop", DEPTH_CROPS)):
            if getattr(self, key) not in known:
                raise InputError(f"depth.{key}={getattr(self, key)}: choose one of {', '.join(known)}")
        if len(self.crop) not in (0, 2) or min(self.crop, default=1) < 1:
            raise InputError(
                f"depth.crop={list(self.crop)}: [height,width] in pixels, or [] for nearly the whole image"
            )
        if not 0 <= self.warmup <= 1 or not 0 < self.holdout < 1:
            raise InputError(f"depth.warmup={self.warmup}, depth.holdout={self.holdout}: shares between 0 and 1")
        if not self.clip > 0 or min(self.weight_decay, self.gradient_weight, self.pictures) < 0:
            raise InputError("depth.clip must be above 0; weight_decay, gradient_weight and pictures 0 or more")


@dataclass(frozen=True, kw_only=True)
class SegmentationSizes:
    """How large images are and what of them a head sees; defaults of DINOv2's original ADE20k configs, linear head.

    Protocol `clean` rounds `resize` and `crop` to whole patches (512 becomes 518 with patches of 14).
    """

    layers: int = 1  # patch tokens of the last n blocks, concatenated, each through the final norm
    resize: int = 512  # pixels of the short side
    crop: int = 512  # pixels of the square that the encoder sees, in training and as window at test
    stride: int = 341  # pixels from window to window
    scales: tuple[float, ...] = (0.5, 2.0)  # in training the short side is `resize` times a number drawn from here
    ratios: tuple[float, ...] = (1.0,)  # at test, of `resize`; scores are averaged
    flip: bool = False  # whether mirrored images are averaged in at test

    def __post_init__(self) -> None:
        for key in ("layers", "resize", "crop", "stride"):
            _require_positive(f"segmentation sizes: {key}", getattr(self, key))
        if self.stride > self.crop:
            raise InputError(f"segmentation sizes: stride={self.stride} leaves gaps between windows of {self.crop}")
        if len(self.scales) != 2 or not 0 < self.scales[0] <= self.scales[1]:
            raise InputError(f"segmentation sizes: scales={list(self.scales)}: two factors above 0, smaller first")
        if not self.ratios or min(self.ratios) <= 0:
            raise InputError(f"segmentation sizes: ratios={list(self.ratios)}: at least one factor, each above 0")


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig:
    """Linear segmentation heads on frozen patch tokens; defaults of DINOv2's original configs unless said otherwise."""

    variants: tuple[str, ...] = ("linear",)  # linear; multiscale: the paper's "+ms"
    linear: SegmentationSizes = field(default_factory=SegmentationSizes)
    multiscale: SegmentationSizes = field(
        default_factory=lambda: SegmentationSizes(
            layers=4, resize=640, crop=640, stride=320, scales=(1, 3), ratios=(1, 1.32, 1.73, 2.28, 3), flip=True
        )
    )
    learning_rates: tuple[float, ...] = ()  # of AdamW; empty: 1e-4 3e-4 1e-3 (DINOv3's sweep) if clean, 1e-3 if dinov2
    weight_decays: tuple[float, ...] = ()  # each with each rate; empty: 1e-4 1e-3 if clean, 1e-4 if dinov2
    steps: int = 40_000  # updates
    warmup: float = 0.0375  # share of the steps over which the rate rises: 1,500 of 40,000
    batch_size: int = 16  # crops per update, over all processes: the norm and the heads see them all
    max_share: float = 0.75  # of a crop's pixels in one class, where ten draws find such a crop
    init_std: float = 0.01  # of the weights; biases start at 0
    holdout: float = 0.1  # share of train that protocol `clean` chooses the head on; the heads never see it
    precision: str = "float32"  # of the encoder's forward pass; bfloat16 = autocast
    workers: int | None = None  # processes that decode and augment; null: one per core, at most 8; 0: this one
    save_every: int = 500  # updates between saved states: what a kill can cost
    pictures: int = 8  # of the first test images: image, truth and prediction side by side

    def __post_init__(self) -> None:
        if not self.variants or set(self.variants) - set(SEGMENTATION_VARIANTS):
            raise InputError(f"segmentation.variants={list(self.variants)}: among {', '.join(SEGMENTATION_VARIANTS)}")
        for key in ("steps", "batch_size", "save_every"):
            _require_positive(f"segmentation.{key}", getattr(self, key))
        if any(rate <= 0 for rate in self.learning_rates) or any(decay < 0 for decay in self.weight_decays):
            raise InputError("segmentation: learning_rates must be above 0, weight_decays 0 or more")
        if not 0 < self.holdout < 1:
            raise InputError(f"segmentation.holdout={self.holdout}: a share of train between 0 and 1")
        if not 0 <= self.warmup < 1:
            raise InputError(f"segmentation.warmup={self.warmup}: a share of the steps, below 1")
        if not 0 < self.max_share <= 1:
            raise InputError(f"segmentation.max_share={self.max_share}: above 0, at most 1")
        if self.precision not in PRECISIONS:
            raise InputError(f"segmentation.precision={self.precision}: choose one of {', '.join(PRECISIONS)}")
        if (self.workers or 0) < 0 or self.pictures < 0:
            raise InputError("segmentation: workers and pictures must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Classification of clips by the linear grid (DINOv2, arXiv 2304.07193, 7.2): the rest is `linear`'s."""

    frames: int = 8  # evenly spaced ones of each clip, as in the paper
    combine: str = "average"  # features of a clip's frames: average (Kinetics-400, UCF101) or concatenate (SSv2)

    def __post_init__(self) -> None:
        _require_positive("video.frames", self.frames)
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


@dataclass(frozen=True, kw_only=True)
class VisualizeConfig:
    """Pictures of patch tokens."""

    image_size: int = 448  # pixels of the short side as the network sees it: 32 patches of 14, 28 of 16
    height: int = 320  # pixels of a panel
    columns: int = 7  # panels side by side in a picture of attention
    matches: int = 24  # lines between two images at most
    distance: float = 2.0  # patches between two lines' ends, so that they spread over the parts

    def __post_init__(self) -> None:
        for key in ("image_size", "height", "columns", "matches"):
            _require_positive(f"visualize.{key}", getattr(self, key))
        if self.distance < 0:
            raise InputError(f"visualize.distance={self.distance}: 0 or more patches")


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
        _require_positive("bootstrap", self.bootstrap)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML or JSON."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _require_positive(key: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise InputError(f"{key}={value}: must be 1 or more")
