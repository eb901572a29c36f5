from hypothesis import given
from hypothesis import strategies as st

from lvd_pretrain.order import RankBatches, permuted_index


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
