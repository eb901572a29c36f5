"""Settings of what is read and of the clean pass over it."""

from __future__ import annotations

from dataclasses import dataclass

from lvd_evaluate.config.checks import require_positive
from lvd_evaluate.errors import InputError

METRICS = ("top1", "mean_class")
PRECISIONS = ("float32", "bfloat16")


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
            require_positive(f"data.{key}", getattr(self, key))
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
    threads: int = 0  # that decode and resize; 0: one per core, divided among the processes of a machine
    shard_size: int = 1024  # images per shard: what a kill can cost, and what processes share out

    def __post_init__(self) -> None:
        for key in ("batch_size", "shard_size"):
            require_positive(f"features.{key}", getattr(self, key))
        if self.threads < 0:
            raise InputError(f"features.threads={self.threads}: 0 (one per core) or more")
        if self.precision not in PRECISIONS:
            raise InputError(f"features.precision={self.precision}: choose one of {', '.join(PRECISIONS)}")
