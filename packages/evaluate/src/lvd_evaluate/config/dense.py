"""Settings of heads on patch tokens and of their pictures."""

from __future__ import annotations

from dataclasses import dataclass, field

from lvd_evaluate.config.checks import require_positive
from lvd_evaluate.config.data import PRECISIONS
from lvd_evaluate.errors import InputError

SEGMENTATION_VARIANTS = ("linear", "multiscale")
DEPTH_HEADS = ("lin.1", "lin.4", "dpt")
DEPTH_REGIONS = ("none", "nyu", "kb")
DEPTH_CROPS = ("none", "eigen", "garg")


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
            require_positive(f"depth.{key}", getattr(self, key))
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
            require_positive(f"segmentation sizes: {key}", getattr(self, key))
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
            require_positive(f"segmentation.{key}", getattr(self, key))
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
class VisualizeConfig:
    """Pictures of patch tokens."""

    image_size: int = 448  # pixels of the short side as the network sees it: 32 patches of 14, 28 of 16
    height: int = 320  # pixels of a panel
    columns: int = 7  # panels side by side in a picture of attention
    matches: int = 24  # lines between two images at most
    distance: float = 2.0  # patches between two lines' ends, so that they spread over the parts

    def __post_init__(self) -> None:
        for key in ("image_size", "height", "columns", "matches"):
            require_positive(f"visualize.{key}", getattr(self, key))
        if self.distance < 0:
            raise InputError(f"visualize.distance={self.distance}: 0 or more patches")
