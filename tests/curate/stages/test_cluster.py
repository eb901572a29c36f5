from pathlib import Path

import numpy as np
import polars as pl

from lvd_curate.config import ClusterConfig
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor, ProcessExecutor
from lvd_curate.stages.cluster import IMAGES_PER_CLUSTER, PAPER_CLUSTERS, cluster, scale_clusters
from lvd_curate.vectors import Vectors


def make(folder: Path, count: int) -> tuple[pl.DataFrame, Vectors]:
    folder.mkdir(exist_ok=True)
    np.save(folder / "vectors.npy", np.random.default_rng(0).normal(size=(count, 8)).astype("<f2"))
    images = pl.DataFrame({"id": [f"{number:06d}" for number in range(count)]})
    return images, Vectors(folder / "vectors.npy", np.arange(count))


def run(folder: Path, name: str, pool: int, count: int, **knobs: int) -> pl.DataFrame:
    images, vectors = make(folder, count)
    bench = Workbench(folder / name, InlineExecutor(), 1 << 30)
    return cluster(vectors[:pool], images, vectors, ClusterConfig(**knobs), 0, bench)


def test_seeds_are_assigned_and_do_not_move_the_centroids(tmp_path: Path) -> None:
    pool = 3 * IMAGES_PER_CLUSTER
    few, many = run(tmp_path, "few", pool, pool + 5), run(tmp_path, "many", pool, pool + 500)
    assert few.schema == {"id": pl.String, "cluster": pl.Int32}
    assert few.equals(many.head(pool + 5))
    assert few["cluster"].n_unique() == 3


def test_one_image_is_one_cluster_and_a_given_number_is_kept(tmp_path: Path) -> None:
    assert run(tmp_path, "one", 1, 1)["cluster"].to_list() == [0]
    assert run(tmp_path, "nine", 200, 200, num_clusters=9)["cluster"].n_unique() == 9


def test_the_papers_number_holds_for_the_papers_pool() -> None:
    assert scale_clusters(ClusterConfig(), 744_000_000) == PAPER_CLUSTERS
    assert scale_clusters(ClusterConfig(), 20_000) == 266
    assert scale_clusters(ClusterConfig(num_clusters=7), 20_000) == 7


def test_two_processes_give_the_same_clusters(tmp_path: Path) -> None:
    images, vectors = make(tmp_path, 40_000)
    config = ClusterConfig(num_clusters=20, iterations=3)
    alone = cluster(vectors, images, vectors, config, 0, Workbench(tmp_path / "a", InlineExecutor(), 1 << 24))
    with ProcessExecutor(2) as executor:
        together = cluster(vectors, images, vectors, config, 0, Workbench(tmp_path / "b", executor, 1 << 24))
    assert alone.equals(together)
