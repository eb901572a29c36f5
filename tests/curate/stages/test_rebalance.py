import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lvd_curate.config import RebalanceConfig
from lvd_curate.kmeans import effective_clusters
from lvd_curate.stages.rebalance import allocate, rebalance, sample_top_down


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(0, 600), st.integers(0, 99))
def test_shares_fit_the_target_and_are_capped_evenly(sizes: list[int], target: int, seed: int) -> None:
    shares = allocate(np.array(sizes), target, np.random.default_rng(seed))
    assert shares.sum() == min(target, sum(sizes))
    assert (shares <= sizes).all()
    cut = shares[shares < np.array(sizes)]
    assert cut.max(initial=0) - cut.min(initial=10**9) <= 1  # those cut short give the same, but for the drawn rest
    if len(cut):
        assert shares.max() <= cut.min() + 1


def test_every_level_is_shared_out_before_the_next() -> None:
    clusters = np.array([[0, 0]] * 90 + [[1, 0]] * 10 + [[2, 1]] * 20)  # two coarse clusters, the first in two parts
    kept = sample_top_down(clusters, 40, np.random.default_rng(0))
    assert np.bincount(clusters[kept, 1]).tolist() == [20, 20]
    assert np.bincount(clusters[kept, 0]).tolist() == [10, 10, 20]


def test_a_long_tail_is_flattened_and_the_same_every_time() -> None:
    draw = np.random.default_rng(0)
    sizes = (600 / np.arange(1, 31)).astype(int)
    labels = np.repeat(np.arange(30), sizes)
    rows = (draw.normal(size=(30, 32))[labels] * 3 + draw.normal(size=(len(labels), 32)) * 0.3).astype("<f2")
    images = pl.DataFrame({"id": [f"{n:04d}" for n in range(len(rows))], "embedding": [row.tobytes() for row in rows]})
    config = RebalanceConfig(target_size=300, levels=[60, 20])
    table = rebalance(images, config, 0)
    kept = table["kept"].to_numpy()
    assert kept.sum() == 300
    even, drawn = effective_clusters(labels[kept]), effective_clusters(labels[draw.permutation(len(labels))[:300]])
    assert even > 1.3 * drawn
    assert table["clusters"].list.len().unique().to_list() == [2]
    assert table.equals(rebalance(images, config, 0))
    assert not table["kept"].equals(rebalance(images, config, 1)["kept"])
