"""What each command does, as one dataclass made of the sections of `config.py`: the sets it works on, and its knobs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lvd_curate.config import (
    MAX_SEED,
    ClusterConfig,
    DecontaminateConfig,
    DeduplicateConfig,
    EmbedConfig,
    ExecutionConfig,
    MaterializeConfig,
    ModerateConfig,
    RebalanceConfig,
    RetrieveConfig,
    ScreenConfig,
    require,
)


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """The whole recipe of one dataset."""

    pool: dict[str, str] = field(default_factory=dict)  # name -> folder, Parquet, Hugging Face dataset or hub id
    seeds: dict[str, str] = field(default_factory=dict)
    exclude: dict[str, str] = field(default_factory=dict)
    random_seed: int = 0  # of k-means and of every draw
    screen: ScreenConfig = field(default_factory=ScreenConfig)
    deduplicate: DeduplicateConfig = field(default_factory=DeduplicateConfig)
    decontaminate: DecontaminateConfig = field(default_factory=DecontaminateConfig)
    moderate: ModerateConfig = field(default_factory=ModerateConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    retrieve: RetrieveConfig = field(default_factory=RetrieveConfig)
    rebalance: RebalanceConfig = field(default_factory=RebalanceConfig)
    materialize: MaterializeConfig = field(default_factory=MaterializeConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    def __post_init__(self) -> None:
        require_seed(self.random_seed)
        require_pool(self.pool)
        require_seeds(self.seeds)
        require_encoder(self.embed)

    def content(self) -> dict[str, Any]:
        """All that decides the dataset's bytes, as plain values: the config without `execution`."""
        return {name: value for name, value in asdict(self).items() if name != "execution"}


@dataclass(frozen=True, kw_only=True)
class EmbedRecipe:
    """What `curate embed` does: vectors of every image."""

    pool: dict[str, str] = field(default_factory=dict)  # name -> place, as in BuildConfig
    screen: ScreenConfig = field(default_factory=ScreenConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    def __post_init__(self) -> None:
        require_pool(self.pool)
        require_encoder(self.embed)


@dataclass(frozen=True, kw_only=True)
class DedupRecipe:
    """What `curate dedup` does: groups of copies."""

    pool: dict[str, str] = field(default_factory=dict)  # or one embeddings:FILE, without any image
    screen: ScreenConfig = field(default_factory=ScreenConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)  # batches and precision of deduplicate.encoder
    deduplicate: DeduplicateConfig = field(default_factory=DeduplicateConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    def __post_init__(self) -> None:
        require_pool(self.pool)


@dataclass(frozen=True, kw_only=True)
class RetrieveRecipe:
    """What `curate retrieve` does: pool images that are like the seeds."""

    pool: dict[str, str] = field(default_factory=dict)  # images, or one embeddings:FILE
    seeds: dict[str, str] = field(default_factory=dict)  # likewise
    random_seed: int = 0
    screen: ScreenConfig = field(default_factory=ScreenConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    retrieve: RetrieveConfig = field(default_factory=RetrieveConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    def __post_init__(self) -> None:
        require_seed(self.random_seed)
        require_pool(self.pool)
        require_seeds(self.seeds)
        if not are_embeddings([*self.pool.values(), *self.seeds.values()]):
            require_encoder(self.embed)


@dataclass(frozen=True, kw_only=True)
class BalanceRecipe:
    """What `curate balance` does: a target number of images spread evenly over concepts."""

    pool: dict[str, str] = field(default_factory=dict)  # images, or one embeddings:FILE
    random_seed: int = 0
    screen: ScreenConfig = field(default_factory=ScreenConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    rebalance: RebalanceConfig = field(default_factory=RebalanceConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    def __post_init__(self) -> None:
        require_seed(self.random_seed)
        require_pool(self.pool)
        require(self.rebalance.target_size is not None, "how many images? say rebalance.target_size=N")
        if not are_embeddings(list(self.pool.values())):
            require_encoder(self.embed)


@dataclass(frozen=True, kw_only=True)
class AuditRecipe:
    """What `curate audit` does: which images of a benchmark have a copy in a dataset."""

    dataset: str = ""  # any place that `pool` takes
    against: dict[str, str] = field(default_factory=dict)  # name -> place of each set to look for
    screen: ScreenConfig = field(default_factory=ScreenConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)  # batches and precision of deduplicate.encoder
    deduplicate: DeduplicateConfig = field(default_factory=DeduplicateConfig)
    decontaminate: DecontaminateConfig = field(default_factory=DecontaminateConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    def __post_init__(self) -> None:
        require(bool(self.against), "audit against what? name a set with --against NAME=PATH")


def are_embeddings(places: Sequence[str]) -> bool:
    """Tell whether places are ready-made vectors without images; InputError where only some are."""
    given = [place.startswith("embeddings:") for place in places]
    require(all(given) or not any(given), f"{', '.join(places)}: give images everywhere, or embeddings:FILE everywhere")
    return bool(given) and all(given)


def require_seed(random_seed: int) -> None:
    """Raise InputError for a seed that k-means cannot take."""
    require(0 <= random_seed < MAX_SEED, f"random_seed={random_seed}: 0 to {MAX_SEED - 1}")


def require_pool(pool: Mapping[str, str]) -> None:
    """Raise InputError without a pool."""
    require(bool(pool), "no pool: name one with --pool PATH, or under `pool:` in the recipe")


def require_seeds(seeds: Mapping[str, str]) -> None:
    """Raise InputError without seeds."""
    require(bool(seeds), "no seeds: name a seed set with --seeds NAME=PATH, or under `seeds:` in the recipe")


def require_encoder(embed: EmbedConfig) -> None:
    """Raise InputError without an encoder, naming the ways to give one."""
    require(
        embed.encoder is not None,
        "no encoder: say embed.encoder=SPEC, a model or run folder, transformers:ID_OR_DIR, "
        "open_clip:NAME/TAG_OR_FILE, timm:NAME[/FILE], torchscript:FILE, onnx:FILE or embeddings:FILE",
    )
