import math

import pytest

from lvd_pretrain.bounds import BOUNDS, check_bounds
from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.errors import InputError


def with_value(key, value):
    settings = PretrainConfig().to_dict()
    *sections, name = key.split(".")
    section = settings
    for part in sections:
        section = section[part]
    section[name] = [*section[name][:-1], value] if isinstance(section[name], list) else value
    return settings


@pytest.mark.parametrize(("key", "bounds"), BOUNDS.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_bounds_are_inside_and_what_is_beyond_is_named(key, bounds):
    low, high = bounds
    for value in (low, high):
        check_bounds(with_value(key, value))
    for value in (low - 1, math.nextafter(low, -1), high + 1, math.nan):
        with pytest.raises(InputError, match=rf"{key}=.*must lie between"):
            check_bounds(with_value(key, value))
