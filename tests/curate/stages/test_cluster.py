import numpy as np
import polars as pl

from lvd_curate.config import ClusterConfig
from lvd_curate.stages.cluster import IMAGES_PER_CLUSTER, cluster


def embedded(count: int, seed: int) -> pl.DataFrame:
    rows = np.random.default_rng(seed).normal(size=(count, 8)).astype("<f2")
    return pl.DataFrame({"id": [f"{seed}-{n}" for n in range(count)], "embedding": [row.tobytes() for row in rows]})


def test_seeds_are_assigned_and_do_not_move_the_centroids() -> None:
    pool = embedded(3 * IMAGES_PER_CLUSTER, 0)
    few = cluster(pool, pl.concat([pool, embedded(5, 1)]), ClusterConfig(), 0)
    many = cluster(pool, pl.concat([pool, embedded(500, 2)]), ClusterConfig(), 0)
    assert few.head(len(pool)).equals(many.head(len(pool)))
    assert few["cluster"].n_unique() == 3
    assert len(few) == len(pool) + 5


def test_one_image_is_one_cluster_and_a_given_number_is_kept() -> None:
    assert cluster(embedded(1, 0), embedded(1, 0), ClusterConfig(), 0)["cluster"].to_list() == [0]
    assert cluster(embedded(200, 0), embedded(200, 0), ClusterConfig(num_clusters=9), 0)["cluster"].n_unique() == 9
