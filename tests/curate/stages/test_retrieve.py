import numpy as np
import polars as pl
import pytest

from lvd_curate.columns import PICKS
from lvd_curate.config import RetrieveConfig
from lvd_curate.stages.retrieve import choose_modes, retrieve, scale_to_pool


def make(ids: list[str], clusters: list[int], seed: int, source: str = "s") -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(10, 8))
    rows = (centres[clusters] + draw.normal(size=(len(ids), 8)) * 0.1).astype("<f2")
    return pl.DataFrame(
        {"id": ids, "source": [source] * len(ids), "cluster": clusters, "embedding": [row.tobytes() for row in rows]}
    )


POOL = make([f"p{n:03d}" for n in range(200)], [n % 10 for n in range(200)], 1)


def test_every_seed_brings_its_nearest_in_order() -> None:
    seeds = make(["s0", "s1"], [0, 3], 2)
    picks = retrieve(POOL, seeds, RetrieveConfig(mode="sample", neighbours=4), 0)
    assert picks.schema == PICKS
    assert picks["rank"].to_list() == [1, 2, 3, 4] * 2
    assert picks["seed_id"].to_list() == ["s0"] * 4 + ["s1"] * 4
    vectors = np.stack([np.frombuffer(row, "<f2").astype(float) for row in POOL["embedding"]])
    query = np.frombuffer(seeds["embedding"][0], "<f2").astype(float)
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    best = np.argsort(-cosines)[:4]
    assert picks["id"].head(4).to_list() == [POOL["id"][int(row)] for row in best]
    np.testing.assert_allclose(picks["similarity"].head(4), cosines[best], atol=1e-3)


def test_clusters_need_more_than_three_seeds() -> None:
    seeds = make([f"s{n}" for n in range(7)], [2, 2, 2, 5, 5, 5, 5], 3)
    picks = retrieve(POOL, seeds, RetrieveConfig(mode="cluster", per_cluster=15), 0)
    clusters = dict(POOL.select("id", "cluster").rows())
    assert {clusters[identity] for identity in picks["id"]} == {5}
    assert len(picks) == picks["id"].n_unique() == 15
    assert set(picks["seed_id"]) <= {"s3", "s4", "s5", "s6"}
    assert picks["rank"].null_count() == 15


def test_the_cap_holds_per_set_and_the_draw_is_the_sets_own() -> None:
    one, two = make([f"a{n}" for n in range(8)], [1] * 4 + [2] * 4, 4, "one"), make(["b"] * 4, [3] * 4, 5, "two")
    config = RetrieveConfig(mode="cluster", per_cluster=20, max_per_set=30)
    alone = retrieve(POOL, one, config, 0)
    assert len(alone) == 30
    together = retrieve(POOL, pl.concat([two, one]), config, 0)
    assert together.filter(pl.col("seed_set") == "one").equals(alone)
    assert not retrieve(POOL, one, config, 1)["id"].sort().equals(alone["id"].sort())


def test_no_chosen_cluster_is_said_and_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    picks = retrieve(POOL, make(["s"], [0], 6), RetrieveConfig(mode="cluster"), 0)
    assert len(picks) == 0
    assert "cluster retrieval finds none" in caplog.text


def test_the_papers_numbers_hold_for_the_papers_pool() -> None:
    config = RetrieveConfig()
    assert scale_to_pool(744_000_000, 100_000, config) == (9970, 1_000_000)
    assert scale_to_pool(1_200_000_000, 100_000, config) == (10_000, 1_000_000)
    assert choose_modes("auto", 744_000_000, 14_197_086) == ("sample",)
    assert choose_modes("auto", 744_000_000, 20_210) == ("cluster",)
    assert choose_modes("auto", 3000, 500) == ("sample", "cluster")
    assert scale_to_pool(3000, 40, config) == (101, 750)
    assert scale_to_pool(3000, 40, RetrieveConfig(per_cluster=7, max_per_set=9)) == (7, 9)


def test_a_pool_of_one_image() -> None:
    picks = retrieve(POOL.head(1), make(["s"] * 5, [0] * 5, 7), RetrieveConfig(), 0)
    assert set(picks["id"]) == {"p000"}
    assert set(picks["mode"]) == {"sample", "cluster"}
