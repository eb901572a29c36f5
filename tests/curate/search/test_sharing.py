import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lvd_curate.search.pairs import Pairs
from lvd_curate.search.sharing import count_up, share_out


def share_one_by_one(pairs: Pairs, wanted: list[int]) -> set[int]:
    """Go down all pairs, the best first."""
    left, taken, given = list(wanted), set(), set()
    order = sorted(range(len(pairs.first)), key=lambda n: (-pairs.similarity[n], pairs.first[n], pairs.second[n]))
    for number in order:
        seed, image = pairs.first[number], pairs.second[number]
        if left[seed] and image not in taken:
            left[seed] -= 1
            taken.add(image)
            given.add(number)
    return given


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(1, 8), st.integers(0, 999))
def test_rounds_give_what_going_one_by_one_gives(wanted: list[int], images: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    first, second = np.nonzero(draw.random((len(wanted), images)) < 0.7)
    pairs = Pairs(first, second, draw.integers(0, 5, len(first)).astype(np.float32) / 5)  # many ties
    given = share_out(pairs, np.array(wanted), images)
    assert set(given.tolist()) == share_one_by_one(pairs, wanted)
    assert len(np.unique(second[given])) == len(given)


def test_values_are_counted_up() -> None:
    assert count_up(np.array([7, 3, 7, 7, 3])).tolist() == [0, 0, 1, 2, 1]
    assert count_up(np.array([], dtype=np.int64)).tolist() == []
