import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lvd_pretrain.draws import uniform

BOUNDS = st.floats(-100, 100)


@settings(deadline=None)
@given(BOUNDS, BOUNDS, st.integers(0, 2**32))
def test_numbers_are_those_of_the_generator_itself(one, other, seed):
    low, high = sorted((one, other))
    ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
    assert [uniform(low, high, ours) for _ in range(3)] == [theirs.uniform(low, high) for _ in range(3)]
