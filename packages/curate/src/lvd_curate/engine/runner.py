"""How a stage becomes an artifact: opened when it is there, else run on the chosen engine within the memory allowed."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import polars as pl
import psutil

from lvd_curate.config import ExecutionConfig
from lvd_curate.engine.artifacts import Artifact, ArtifactStore, Workbench, build_table, lock_folder
from lvd_curate.engine.executors import Executor, InlineExecutor, ProcessExecutor, RayExecutor, available_cores
from lvd_curate.engine.progress import track
from lvd_curate.engine.shards import FailedShards, Piece, ShardStage, build_shards, build_without

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runner:
    """Runs stages and keeps what they leave in one folder."""

    store: ArtifactStore
    executor: Executor
    max_bytes: int
    set_aside: bool
    lacking: list[str] = field(default_factory=list)  # artifacts of this run that lack shards

    def table(
        self, name: str, stage: Callable[[Workbench], pl.DataFrame], version: int, config: object, inputs: object
    ) -> tuple[pl.DataFrame, str]:
        """Run a stage that needs its whole input at once, or open what it left; return its table and fingerprint.

        `inputs` holds the fingerprints of what it reads, so that whatever changes upstream makes it run anew.
        """

        def run(pieces: Path) -> pl.DataFrame:
            return stage(Workbench(pieces, self.executor, self.max_bytes))

        artifact = self.store.open_or_build(
            name, partial(build_table, run), version=version, config=config, inputs=inputs
        )
        return artifact.table(), artifact.fingerprint

    def shards(
        self, name: str, stage: ShardStage, pieces: Sequence[Piece], version: int, config: object, inputs: object
    ) -> Artifact:
        """Run a stage over pieces of its input, or open what it left.

        Shards that fail three times end the run with InputError; with `set_aside` their rows are what the stage's
        fallback says of them, in an artifact of its own, which nobody takes for the complete one.
        """
        build = partial(build_shards, name, stage, pieces, self.executor, track)
        try:
            return self.store.open_or_build(name, build, version=version, config=config, inputs=inputs)
        except FailedShards as failed:
            if not self.set_aside or stage.fallback is None:
                raise
            logger.warning("%s; set aside", failed)
            build = partial(build_without, stage, pieces, failed)
            given_up = [inputs, sorted(failed.errors)]
            artifact = self.store.open_or_build(
                f"{name}-without", build, version=version, config=config, inputs=given_up
            )
            self.lacking.append(artifact.path.name)
            return artifact


@contextmanager
def open_runner(work: Path, config: ExecutionConfig) -> Iterator[Runner]:
    """Lock the work folder, start the engine, and end both with the block."""
    with lock_folder(work), open_executor(config) as executor:
        yield Runner(ArtifactStore(work), executor, allowed_bytes(config), config.set_aside)


@contextmanager
def open_executor(config: ExecutionConfig) -> Iterator[Executor]:
    """Yield the engine that runs shards."""
    if config.engine == "inline":
        yield InlineExecutor()
    elif config.engine == "ray":
        with RayExecutor(config.ray_address, config.workers, config.device) as cluster:
            yield cluster
    else:
        with ProcessExecutor(config.workers or available_cores()) as processes:
            yield processes


def allowed_bytes(config: ExecutionConfig) -> int:
    """Return the memory that joins and k-means may take: what the user allows, else half of what is free now."""
    return int(config.max_ram_gb * 10**9) or psutil.virtual_memory().available // 2
