import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lvd_curate.columns import PICKS
from lvd_curate.config import RetrieveConfig
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.errors import InputError
from lvd_curate.stages.retrieve import check_set_names, choose_modes, count_nominal, retrieve, scale_to_pool
from lvd_curate.vectors import Vectors

CENTRES = np.random.default_rng(99).normal(size=(10, 8))
Run = Callable[..., pl.DataFrame]


def make(ids: list[str], clusters: list[int], seed: int, source: str = "s") -> pl.DataFrame:
    rows = CENTRES[clusters] + np.random.default_rng(seed).normal(size=(len(ids), 8)) * 0.1
    return pl.DataFrame({"id": ids, "source": [source] * len(ids), "cluster": clusters, "vector": rows.tolist()})


POOL = make([f"p{n:03d}" for n in range(200)], [n % 10 for n in range(200)], 1)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(pool: pl.DataFrame, seeds: pl.DataFrame, random_seed: int = 0, **knobs: object) -> pl.DataFrame:
        table = pl.concat([pool, seeds])
        np.save(tmp_path / "vectors.npy", np.array(table["vector"].to_list()).astype("<f2"))
        vectors = Vectors(tmp_path / "vectors.npy", np.arange(len(table)))
        config = RetrieveConfig(**knobs)  # type: ignore[arg-type]
        bench = Workbench(tmp_path / "bench", InlineExecutor(), 1 << 30)
        return retrieve(pool, vectors[: len(pool)], seeds, vectors[len(pool) :], config, random_seed, bench)

    return run


def rank_pool(seed: list[float]) -> tuple[list[str], np.ndarray]:
    """Return all pool ids, the most alike first, and their cosines."""
    vectors, query = np.array(POOL["vector"].to_list()), np.array(seed)
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    order = np.argsort(-cosines)
    return POOL["id"].gather(order).to_list(), cosines[order]


def test_every_seed_brings_its_nearest_in_order(run: Run) -> None:
    seeds = make(["s0", "s1"], [0, 3], 2)
    picks = run(POOL, seeds, mode="sample", neighbours=4)
    assert picks.schema == PICKS
    assert picks["rank"].to_list() == [1, 2, 3, 4] * 2
    assert picks["seed_id"].to_list() == ["s0"] * 4 + ["s1"] * 4
    ids, cosines = rank_pool(seeds["vector"][0])
    assert picks["id"].head(4).to_list() == ids[:4]
    np.testing.assert_allclose(picks["similarity"].head(4), cosines[:4], atol=1e-3)


def test_a_set_may_have_its_own_number_and_mode(run: Run) -> None:
    seeds = pl.concat([make(["a"], [0], 2, "one"), make(["b"] * 4, [3] * 4, 5, "two")])
    picks = run(POOL, seeds, mode="sample", neighbours=2, set_neighbours={"one": 7}, set_mode={"two": "cluster"})
    assert picks.filter(pl.col("seed_set") == "one")["rank"].to_list() == [1, 2, 3, 4, 5, 6, 7]
    assert picks.filter(pl.col("seed_set") == "two")["mode"].unique().to_list() == ["cluster"]
    for knobs in ({"set_neighbours": {"three": 7}}, {"set_mode": {"three": "sample"}}):
        with pytest.raises(InputError, match=r"'three'; there are one, two"):
            check_set_names(RetrieveConfig(**knobs), ["two", "one"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"set_mode\.one=nearest"):
        RetrieveConfig(set_mode={"one": "nearest"})
    with pytest.raises(InputError, match=r"set_neighbours\.one=0"):
        RetrieveConfig(set_neighbours={"one": 0})


def test_refilled_seeds_each_get_their_number_and_the_better_placed_comes_first(run: Run) -> None:
    near = make(["s1", "s0", "s2"], [0, 0, 0], 3)
    seeds = pl.concat([near, near[:1].with_columns(id=pl.lit("s9"), source=pl.lit("t"))])  # s9 is where s1 is
    shared = run(POOL, seeds, mode="sample", neighbours=4)
    assert shared["id"].n_unique() < 16
    picks = run(POOL, seeds, mode="sample", neighbours=4, collisions="refill")
    assert picks["id"].n_unique() == 16
    assert picks["seed_id"].value_counts().sort("seed_id")["count"].to_list() == [4, 4, 4, 4]
    owners = {image: (seed, cosine) for image, seed, cosine in picks.select("id", "seed_id", "similarity").iter_rows()}
    for seed, vector in seeds.select("id", "vector").iter_rows():
        ids, cosines = rank_pool(vector)
        mine = picks.filter(pl.col("seed_id") == seed)
        assert [ids[rank - 1] for rank in mine["rank"]] == mine["id"].to_list()
        assert mine["similarity"].is_sorted(descending=True)
        for image, cosine in zip(ids[: mine["rank"][-1]], cosines, strict=False):
            assert owners[image][1] > cosine - 1e-3  # passed over only for one better placed
    assert owners[rank_pool(near["vector"][0])[0][0]][0] == "s1"  # of two seeds alike, the lower id


def test_refilling_ends_when_the_pool_is_used_up(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    picks = run(POOL[:10], make([f"s{n}" for n in range(4)], [0, 1, 2, 3], 2), mode="sample", collisions="refill")
    assert sorted(picks["id"]) == POOL["id"][:10].to_list()
    assert "6 images fewer" in caplog.text


def test_clusters_need_more_than_three_seeds(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    seeds = make([f"s{n}" for n in range(7)], [2, 2, 2, 5, 5, 5, 5], 3)
    with caplog.at_level(logging.INFO):
        picks = run(POOL, seeds, mode="cluster", per_cluster=15)
    clusters = dict(POOL.select("id", "cluster").rows())
    assert {clusters[identity] for identity in picks["id"]} == {5}
    assert len(picks) == picks["id"].n_unique() == 15
    assert set(picks["seed_id"]) <= {"s3", "s4", "s5", "s6"}
    assert picks["rank"].null_count() == 15
    assert "short" not in caplog.text
    with caplog.at_level(logging.INFO):
        assert len(run(POOL, seeds, mode="cluster", per_cluster=50)) == 20
    assert "30 images short of 50" in caplog.text


def test_a_clusters_image_names_the_seed_most_like_it(run: Run) -> None:
    seeds = make([f"s{n}" for n in range(8)], [5] * 4 + [6] * 4, 3)
    picks = run(POOL, seeds, mode="cluster", per_cluster=5)
    pool, guides = (dict(table.select("id", "vector").iter_rows()) for table in (POOL, seeds))
    for image, guide, similarity in picks.select("id", "seed_id", "similarity").iter_rows():
        cosines = {
            name: np.dot(pool[image], vector) / np.linalg.norm(pool[image]) / np.linalg.norm(vector)
            for name, vector in guides.items()
        }
        assert guide == max(cosines, key=lambda name: cosines[name])
        assert similarity == pytest.approx(cosines[guide], abs=1e-3)


def test_the_cap_holds_per_set_and_the_draw_is_the_sets_own(run: Run) -> None:
    one, two = make([f"a{n}" for n in range(8)], [1] * 4 + [2] * 4, 4, "one"), make(["b"] * 4, [3] * 4, 5, "two")
    knobs = {"mode": "cluster", "per_cluster": 20, "max_per_set": 30}
    alone = run(POOL, one, **knobs)
    assert len(alone) == 30
    together = run(POOL, pl.concat([two, one]), **knobs)
    assert together.filter(pl.col("seed_set") == "one").equals(alone)
    assert not run(POOL, one, 1, **knobs)["id"].sort().equals(alone["id"].sort())


def test_what_collides_between_the_modes_is_counted_as_asked(run: Run) -> None:
    one, two = (make([f"{name}{n}" for n in range(4)], [5] * 4, 5, name) for name in ("a", "b"))
    knobs = {"mode": "both", "neighbours": 2, "per_cluster": 12}
    multiset = run(POOL, pl.concat([one, two]), collisions="multiset", **knobs)
    assert len(multiset) == 2 * (4 * 2 + 12)  # every seed and every cluster gets its number
    assert multiset.filter(pl.col("seed_set") == "a")["id"].is_duplicated().any()
    unique = run(POOL, pl.concat([one, two]), collisions="unique", **knobs)
    sampled = unique.filter(pl.col("mode") == "sample")
    assert sampled.equals(multiset.filter(pl.col("mode") == "sample"))
    for name in ("a", "b"):  # a set's clusters bring what its images do not
        mine = unique.filter(pl.col("seed_set") == name)
        assert not set(mine.filter(mode="cluster")["id"]) & set(mine.filter(mode="sample")["id"])
    refilled = run(POOL, pl.concat([one, two]), collisions="refill", **knobs)
    assert not refilled["id"].is_duplicated().any()


def test_no_chosen_cluster_is_said_and_the_images_choose_instead(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    picks = run(POOL, make(["s"], [0], 6), mode="cluster")
    assert picks["mode"].to_list() == ["sample"] * 4
    assert "no cluster holds more than 3 seeds of 's': it falls back to retrieval per seed image" in caplog.text
    both = run(POOL, make(["s"], [0], 6), mode="both")
    assert both.equals(picks)
    assert "its images choose alone" in caplog.text


def test_the_papers_numbers_hold_for_the_papers_pool() -> None:
    config = RetrieveConfig()
    assert scale_to_pool(744_000_000, 100_000, config) == (9970, 1_000_000)
    assert scale_to_pool(1_200_000_000, 100_000, config) == (10_000, 1_000_000)
    assert choose_modes("auto", 744_000_000, 14_197_086) == ("sample",)
    assert choose_modes("auto", 744_000_000, 20_210) == ("cluster",)
    assert choose_modes("auto", 3000, 500) == ("sample", "cluster")
    assert scale_to_pool(3000, 40, config) == (101, 750)
    assert scale_to_pool(3000, 40, RetrieveConfig(per_cluster=7, max_per_set=9)) == (7, 9)


def test_nominal_counts_are_the_papers_table_15() -> None:
    config = RetrieveConfig(set_neighbours={"imagenet1k": 32})
    paper = {"pool_size": 1_200_000_000, "num_clusters": 100_000}
    assert count_nominal(config, "imagenet22k", 14_197_086, **paper) == 56_788_344
    assert count_nominal(config, "imagenet1k", 1_281_167, **paper) == 40_997_344
    assert count_nominal(config, "landmarks", 1_580_470, **paper) == 6_321_880
    assert count_nominal(config, "ade20k", 20_210, **paper) == 1_000_000
    assert count_nominal(config, "tiny", 8, pool_size=200, num_clusters=10) == 8 * 4 + 50  # a quarter of the pool


def test_a_pool_of_one_image(run: Run) -> None:
    picks = run(POOL.head(1), make(["s"] * 5, [0] * 5, 7), collisions="multiset")
    assert set(picks["id"]) == {"p000"}
    assert set(picks["mode"]) == {"sample", "cluster"}
