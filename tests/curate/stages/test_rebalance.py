from pathlib import Path

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lvd_curate.config import RebalanceConfig
from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.search.kmeans import Level, effective_clusters
from lvd_curate.stages.rebalance import allocate, plan_levels, rebalance, sample_top_down, scale_levels
from lvd_curate.vectors import Vectors


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(0, 600), st.integers(0, 99))
def test_shares_fit_the_target_and_are_capped_evenly(sizes: list[int], target: int, seed: int) -> None:
    shares = allocate(np.array(sizes), target, np.random.default_rng(seed))
    assert shares.sum() == min(target, sum(sizes))
    assert (shares <= sizes).all()
    cut = shares[shares < np.array(sizes)]
    assert cut.max(initial=0) - cut.min(initial=10**9) <= 1  # those cut short give the same, but for the drawn rest
    if len(cut):
        assert shares.max() <= cut.min() + 1


def test_every_level_is_shared_out_before_the_next_and_leaves_go_by_their_order() -> None:
    clusters = np.array([[0, 0]] * 90 + [[1, 0]] * 10 + [[2, 1]] * 20)  # two coarse clusters, the first in two parts
    kept = sample_top_down(clusters, 40, np.arange(120)[::-1], np.random.default_rng(0))
    assert np.bincount(clusters[kept, 1]).tolist() == [20, 20]
    assert np.bincount(clusters[kept, 0]).tolist() == [10, 10, 20]
    assert np.flatnonzero(kept)[:10].tolist() == list(range(80, 90))


def test_levels_scale_with_the_images() -> None:
    config = RebalanceConfig()
    assert scale_levels(config, 60_000) == [3000, 300]
    assert scale_levels(config, 2_000_000) == [50_000, 5000]
    assert scale_levels(config, 750_000_000) == [10_000_000, 1_000_000, 100_000, 10_000]
    assert scale_levels(config, 20_000) == [3000, 300]
    assert scale_levels(config, 2000) == [400, 100]
    assert scale_levels(config, 1) == [1, 1]
    assert scale_levels(RebalanceConfig(levels=[9, 4]), 60_000) == [9, 4]
    assert plan_levels(config, 60_000) == [Level(3000, config.finest_resampling, 10), Level(300, 10, 5)]
    own = RebalanceConfig(levels=[50, 10, 2], resampling=3, finest_resampling=0, resampling_points=[7, 2])
    assert plan_levels(own, 1000) == [Level(50, 0, 7), Level(10, 3, 2), Level(2, 3, 2)]


def make_tail(folder: Path) -> tuple[np.ndarray, pl.DataFrame, Vectors]:
    draw = np.random.default_rng(0)
    sizes = (600 / np.arange(1, 31)).astype(int)
    labels = np.repeat(np.arange(30), sizes)
    rows = draw.normal(size=(30, 32))[labels] * 3 + draw.normal(size=(len(labels), 32)) * 0.3
    np.save(folder / "vectors.npy", rows.astype("<f2"))
    images = pl.DataFrame({"id": [f"{number:04d}" for number in range(len(rows))]})
    return labels, images, Vectors(folder / "vectors.npy", np.arange(len(rows)))


def test_a_long_tail_is_flattened_and_the_same_every_time(tmp_path: Path) -> None:
    labels, images, vectors = make_tail(tmp_path)
    config = RebalanceConfig(target_size=300)

    def run(name: str, config: RebalanceConfig, seed: int) -> pl.DataFrame:
        return rebalance(images, vectors, config, seed, Workbench(tmp_path / name, InlineExecutor(), 1 << 30))

    table = run("one", config, 0)
    assert table.schema == {"id": pl.String, "clusters": pl.List(pl.Int32), "kept": pl.Boolean}
    kept = table["kept"].to_numpy()
    assert kept.sum() == 300
    drawn = np.random.default_rng(0).permutation(len(labels))[:300]
    assert effective_clusters(labels[kept]) > 1.3 * effective_clusters(labels[drawn])
    assert table["clusters"].list.len().unique().to_list() == [2]
    assert table.equals(run("two", config, 0))
    assert not table["kept"].equals(run("three", config, 1)["kept"])
    closest = run("four", RebalanceConfig(target_size=300, leaves="closest"), 0)
    assert closest["clusters"].equals(table["clusters"])
    assert not closest["kept"].equals(table["kept"])


def test_a_killed_run_goes_on_to_the_same_images(tmp_path: Path) -> None:
    _, images, vectors = make_tail(tmp_path)
    config, bench = RebalanceConfig(target_size=300), Workbench(tmp_path / "one", InlineExecutor(), 1 << 30)
    whole = rebalance(images, vectors, config, 0, bench)
    for file in sorted(bench.folder.rglob("*.npy"))[5:]:
        file.unlink()
    assert whole.equals(rebalance(images, vectors, config, 0, bench))


def test_one_image_is_kept(tmp_path: Path) -> None:
    _, images, vectors = make_tail(tmp_path)
    bench = Workbench(tmp_path / "one", InlineExecutor(), 1 << 30)
    table = rebalance(images[:1], vectors[:1], RebalanceConfig(target_size=5), 0, bench)
    assert table["kept"].to_list() == [True]
    assert table["clusters"].to_list() == [[0, 0]]
