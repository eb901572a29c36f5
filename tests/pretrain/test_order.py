import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lvd_pretrain.order import MIXTURE_BLOCK, Mixture, RankBatches, mixture_shares, permuted_index


@given(length=st.integers(1, 400), seed=st.integers(0, 10**6), turn=st.integers(0, 5))
def test_every_pass_sees_every_image_once(length, seed, turn):
    seen = [permuted_index(turn * length + place, length, seed) for place in range(length)]
    assert sorted(seen) == list(range(length))


def test_passes_and_seeds_differ_and_neighbours_part():
    orders = {
        (seed, turn): [permuted_index(turn * 500 + i, 500, seed) for i in range(500)]
        for seed in (0, 1)
        for turn in (0, 1)
    }
    assert len({tuple(order) for order in orders.values()}) == 4
    steps = [abs(a - b) for a, b in zip(orders[0, 0], orders[0, 0][1:], strict=False)]
    assert sum(steps) / len(steps) > 120  # a random order's mean is 167


def test_far_positions_cost_nothing():
    assert 0 <= permuted_index(10**15, 142_109_386, 3) < 142_109_386


def test_ranks_split_each_global_batch_whatever_their_number():
    alone = list(RankBatches(2, 5, 6, 0, 1))
    pair = list(zip(RankBatches(2, 5, 3, 0, 2), RankBatches(2, 5, 3, 1, 2), strict=True))
    assert alone == [first + second for first, second in pair]
    assert len(RankBatches(2, 5, 6, 0, 1)) == 3


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9))
def test_shares_are_the_weights_to_one_sample_and_fill_the_block(weights):
    shares = mixture_shares(weights)
    assert sum(shares) == MIXTURE_BLOCK
    assert all(abs(s - w / sum(weights) * MIXTURE_BLOCK) < 1 for s, w in zip(shares, weights, strict=True))


def test_a_mixture_keeps_its_shares_and_walks_each_source_evenly():
    members = [np.arange(700), np.arange(700, 1000)]
    mixture = Mixture(members, mixture_shares([1, 3]), seed=4)
    drawn = np.bincount([mixture(position) for position in range(MIXTURE_BLOCK)], minlength=1000)
    assert drawn[:700].sum() == MIXTURE_BLOCK // 4
    for source in (drawn[:700], drawn[700:]):
        assert source.max() - source.min() <= 1
    first = [mixture(position) < 700 for position in range(400)]
    assert 60 < sum(first) < 140  # interleaved from the start, not one source after the other
    assert mixture.substitute(9, np.random.default_rng(0)) // 700 == mixture(9) // 700


def test_a_mixture_goes_on_across_blocks_where_each_source_stopped():
    mixture = Mixture([np.arange(MIXTURE_BLOCK)], [MIXTURE_BLOCK], seed=1)
    seen = [mixture(position) for position in range(MIXTURE_BLOCK - 50, MIXTURE_BLOCK)]
    assert len(set(seen)) == 50
    small = Mixture([np.arange(200_000)], [MIXTURE_BLOCK], seed=1)
    places = [small(block * MIXTURE_BLOCK + i) for block in range(3) for i in range(0, MIXTURE_BLOCK, 64)]
    assert len(set(places)) == len(places)
