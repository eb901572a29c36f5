"""Every knob of a run: schema, default, unit and origin.

The dataclasses are the whole configuration; recipes.py merges them with a recipe's YAML and `key=value` words. Defaults
are those of the DINOv2 paper's code for ViT-L/16 on ImageNet-1k, with the targets and untied heads of its long recipes,
unless a comment says otherwise; sizes are in pixels, lengths of schedules in steps, one optimizer update each.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lvd_pretrain.bounds import check_bounds
from lvd_pretrain.errors import InputError
from lvd_pretrain.presets import DEFAULT_PRESET

FUSED_FROM = 2**23  # logits: 32 MB in float32, of which dense losses hold about six copies, and no faster
# Width, depth, heads of the releases: DINOv2, arXiv 2304.07193, table 17 (which prints 18 for the depth of B).
ARCHITECTURES = {
    "vit_tiny": (192, 12, 3),  # DeiT's tiny: not in the paper, for small budgets
    "vit_small": (384, 12, 6),
    "vit_base": (768, 12, 12),
    "vit_large": (1024, 24, 16),
    "vit_giant2": (1536, 40, 24),
}
CENTERINGS = ("sinkhorn_knopp", "ema")
PRECISIONS = ("fp32", "bf16")
FFNS = ("mlp", "swiglu")
ATTENTIONS = ("auto", "xformers", "varlen", "sdpa")
DISTILLED_PATCHES = ("all", "masks")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where images come from and how they are read."""

    path: str = ""  # Dataset v1 or any Hugging Face dataset folder, Parquet, image folder, 'x-{00..99}.tar', or hub id
    paths: dict[str, str] = field(default_factory=dict)  # name: path, instead of `path`, for several at once
    weights: dict[str, float] = field(default_factory=dict)  # source: share of samples; empty takes images as they are
    source_column: str = "source"  # names the sources of `weights` when there is one path; Dataset v1's own
    split: str = "train"  # split of a Hugging Face dataset
    column: str = "image"  # image column of a Hugging Face dataset
    streaming: bool = False  # read a Hugging Face dataset from its start to its end, without a copy on disk
    shuffle_buffer: int = 1024  # encoded images each worker holds to shuffle a stream
    workers: int = 4  # decoding processes per rank

    def __post_init__(self) -> None:
        if self.path and self.paths:
            raise InputError("data.path and data.paths are both set: give one")
        if self.streaming and (self.paths or self.weights):
            raise InputError(
                "data.streaming reads one data.path in its own order: leave data.paths and data.weights out"
            )
        for name, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise InputError(f"data.weights.{name}={weight}: must be a finite number, at least 0")
        if self.weights and not any(self.weights.values()):
            raise InputError("data.weights are all 0: nothing would be drawn")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The vision transformer. `arch` gives width, depth and heads unless those three are set."""

    arch: str = "vit_large"
    width: int | None = None  # embedding dimension D
    depth: int | None = None
    heads: int | None = None
    patch_size: int = 16  # 14 in everything released
    registers: int = 0  # 4 in the released `_reg` models; "Vision Transformers Need Registers", arXiv 2309.16588
    ffn: str = "mlp"  # "swiglu" in the from-scratch L/14 and g/14
    mlp_ratio: float = 4.0
    layerscale: float = 1e-5  # initial value of LayerScale's gamma
    init_std: float | None = 0.02  # of every Linear, heads included; null: 1 / sqrt(inputs), for narrow networks
    attention: str = "auto"  # kernel: "xformers", "varlen", "sdpa"; "auto": the first of them that runs here
    compile: bool = False  # blocks through torch.compile: minutes at the start, faster steps on a GPU
    drop_path: float = 0.3  # rate in every block (uniform); 0.4 in the long recipes
    pos_embed_offset: float = 0.0  # released models without registers: 0.1 (see vit.py); 0 resizes by size
    pos_embed_antialias: bool = True  # as the released register models and their Hugging Face class do

    def __post_init__(self) -> None:
        if self.arch not in ARCHITECTURES:
            raise InputError(f"model.arch={self.arch}: not one of {', '.join(ARCHITECTURES)}")
        if self.ffn not in FFNS:
            raise InputError(f"model.ffn={self.ffn}: not one of {', '.join(FFNS)}")
        if self.attention not in ATTENTIONS:
            raise InputError(f"model.attention={self.attention}: not one of {', '.join(ATTENTIONS)}")
        if self.dims[0] % self.dims[2]:
            raise InputError(f"model.width={self.dims[0]} is not a multiple of model.heads={self.dims[2]}")

    @property
    def dims(self) -> tuple[int, int, int]:
        """Width, depth and heads in force."""
        width, depth, heads = ARCHITECTURES[self.arch]
        return self.width or width, self.depth or depth, self.heads or heads


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """What `init_from` does beside giving the backbone its weights."""

    heads: bool = True  # keep the heads that come with the weights; false draws fresh ones
    freeze_backbone_steps: int = 0  # steps in which the backbone's learning rate is 0, for fresh heads to settle


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Distillation from a frozen larger teacher (section 5 of the paper), in place of self-distillation."""

    teacher: str = ""  # weights, as for `init_from`; empty trains against the student's own EMA
    patches: str = "all"  # tokens of the patch term: every patch ("all") or a random block of each crop ("masks")

    def __post_init__(self) -> None:
        if self.patches not in DISTILLED_PATCHES:
            raise InputError(f"distill.patches={self.patches}: not one of {', '.join(DISTILLED_PATCHES)}")


@dataclass(frozen=True, kw_only=True)
class CropsConfig:
    """Multi-crop geometry (the released code's; the paper gives none; scales are shares of the image's area)."""

    global_size: int = 224
    global_scale: tuple[float, float] = (0.32, 1.0)
    local_size: int = 96  # 98 for patch 14
    local_scale: tuple[float, float] = (0.05, 0.32)
    local_number: int = 8
    flip: float = 0.5  # probability of a horizontal flip


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Photometric augmentation of each crop. Probabilities are (global 1, global 2, local)."""

    jitter: float = 0.8  # probability of colour jitter
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1  # share of the colour circle, each way
    gray: float = 0.2
    blur: tuple[float, float, float] = (1.0, 0.1, 0.5)  # BYOL's; the released code in effect ran (0, 0.9, 0.5)
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # in pixels of the crop
    solarize: tuple[float, float, float] = (0.0, 0.2, 0.0)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # ImageNet, RGB in 0..1
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class MasksConfig:
    """Block masks of iBOT over the student's global crops."""

    probability: float = 0.5  # share of global crops that get a mask
    ratio: tuple[float, float] = (0.1, 0.5)  # share of patches masked, stratified over the masked crops


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """A projection head: three-layer MLP, L2 norm, weight-normed prototypes."""

    prototypes: int = 65536  # 131072 in the long recipes
    hidden: int = 2048
    bottleneck: int = 256  # 384 for DINO in the long recipes


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the objective's terms; 0 leaves iBOT or KoLeo out, DINO's carries the objective."""

    dino: float = 1.0
    ibot: float = 1.0
    koleo: float = 0.1
    ibot_separate_head: bool = True  # untied heads, as in the long recipes; false ties iBOT to DINO's head
    fused: str = "auto"  # "true" never stores a [tokens, prototypes] matrix; "auto": none of FUSED_FROM logits and more

    def __post_init__(self) -> None:
        if self.fused.lower() not in ("auto", "true", "false"):
            raise InputError(f"loss.fused={self.fused}: not one of auto, true, false")

    def fuses(self, rows: int, prototypes: int) -> bool:
        """Whether losses over that many rows and prototypes are computed tile by tile."""
        return rows * prototypes >= FUSED_FROM if self.fused.lower() == "auto" else self.fused.lower() == "true"


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Targets and their momentum teacher."""

    centering: str = "sinkhorn_knopp"  # "ema" is DINO's own: an EMA centre, subtracted before sharpening
    sinkhorn_iterations: int = 3
    center_momentum: float = 0.9
    student_temperature: float = 0.1
    temperature: tuple[float, float] = (0.04, 0.07)  # from, to: linear over the warm-up, then constant
    temperature_warmup: int = 37_500  # steps
    momentum: tuple[float, float] = (0.992, 1.0)  # from, to: cosine over the run; 0.994 in the long recipes

    def __post_init__(self) -> None:
        if self.centering not in CENTERINGS:
            raise InputError(f"teacher.centering={self.centering}: not one of {', '.join(CENTERINGS)}")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with layer-wise decay; learning rate and weight decay follow cosines over the run."""

    steps: int = 125_000
    batch_size: int = 64  # images per process and step
    base_lr: float = 4e-3  # lr = base_lr * sqrt(global batch / 1024)
    min_lr: float = 1e-6  # not scaled by the batch
    warmup: int = 12_500  # steps from lr 0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: tuple[float, float] = (0.04, 0.4)  # from, to; (0.04, 0.2) in the long recipes
    layer_decay: float = 0.9  # learning rate's factor per block from the top; 1.0 in the long recipes
    patch_embed_lr: float = 0.2  # learning rate's factor of the patch embedding
    freeze_last_layer: int = 1_250  # steps in which the prototypes' learning rate is 0
    clip: float = 3.0  # gradient norm of backbone and of each head, each on its own; 0 = off
    activation_checkpointing: bool = False  # blocks are computed again in the backward pass: less memory, more time


@dataclass(frozen=True, kw_only=True)
class SaveConfig:
    """Checkpoints to resume from and models to use."""

    every: int = 3_750  # steps between checkpoints; the last step is always saved
    keep: int = 3  # newest checkpoints kept; models are all kept
    keep_every: int = 0  # checkpoints at multiples of so many steps are kept for good; 0 = none


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """Alarms."""

    patience: int = 1_000  # steps after warm-up at ln K, or with all cls tokens one point, before a run stops; 0 never


@dataclass(frozen=True, kw_only=True)
class KnnConfig:
    """A k-NN during the run, on labelled images that are not trained on: each is classified by the others."""

    path: str = ""  # Hugging Face dataset, Parquet file, or folder whose subfolders are classes
    every: int = 0  # steps between measurements, a multiple of log_every; 0 = never
    split: str = "train"
    column: str = "image"
    label: str = "label"
    images: int = 5_000  # drawn evenly over the set
    neighbours: int = 20  # DINO, arXiv 2104.14294, appendix F.1
    temperature: float = 0.07

    def __post_init__(self) -> None:
        if bool(self.path) != bool(self.every):
            raise InputError("knn.path and knn.every go together: give both or neither")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """One run of `pretrain`."""

    preset: str = DEFAULT_PRESET  # "clean" or "dinov2-released": what differs stands in presets.py
    out: str = "runs/pretrain"  # run folder
    seed: int = 0
    precision: str = "bf16"  # compute; weights, losses and EMA are fp32 always
    log_every: int = 10  # steps between lines of metrics.jsonl
    trackers: list[str] | None = None  # names Accelerate knows; null is TensorBoard where installed, [] none
    init_from: str = ""  # weights to start from: a run, a model folder or hub id, .safetensors, .pth, timm:NAME[/FILE]
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    crops: CropsConfig = field(default_factory=CropsConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    masks: MasksConfig = field(default_factory=MasksConfig)
    dino_head: HeadConfig = field(default_factory=HeadConfig)
    ibot_head: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    save: SaveConfig = field(default_factory=SaveConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    knn: KnnConfig = field(default_factory=KnnConfig)

    def __post_init__(self) -> None:
        check_bounds(asdict(self))
        if self.precision not in PRECISIONS:
            raise InputError(f"precision={self.precision}: not one of {', '.join(PRECISIONS)}")
        if self.precision == "fp32" and self.model.attention in ("xformers", "varlen"):
            raise InputError(f"model.attention={self.model.attention} takes 16 bits only: set precision=bf16")
        for name, size in (("global_size", self.crops.global_size), ("local_size", self.crops.local_size)):
            if size % self.model.patch_size:
                fit = max(1, round(size / self.model.patch_size)) * self.model.patch_size
                raise InputError(
                    f"crops.{name}={size} is not a multiple of model.patch_size={self.model.patch_size}: try {fit}"
                )
        if self.optim.warmup >= self.optim.steps > 1:
            raise InputError(
                f"optim.warmup={self.optim.warmup} is not below optim.steps={self.optim.steps}, so the learning rate "
                f"would never arrive: try optim.warmup={self.optim.steps // 10}"
            )
        if self.knn.every % self.log_every:
            raise InputError(f"knn.every={self.knn.every} is not a multiple of log_every={self.log_every}")
        if self.distill.teacher and self.model.drop_path:
            raise InputError(
                f"model.drop_path={self.model.drop_path}: distillation goes without stochastic depth; "
                "set model.drop_path=0"
            )
        if self.init.freeze_backbone_steps and not self.init_from:
            raise InputError("init.freeze_backbone_steps keeps the weights of init_from=, and none are given")
        if self.loss.koleo and self.optim.batch_size < 2:
            raise InputError(
                f"optim.batch_size={self.optim.batch_size}: KoLeo needs at least 2 images per process; "
                "raise the batch or set loss.koleo=0"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, ready for YAML and JSON."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
