import math

import pytest

from lvd_pretrain.bounds import BOUNDS, RANGES, check_bounds
from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.errors import InputError


def numbers(tree, prefix=""):
    """Dotted names of settings that are numbers."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{key}.")
        elif type(value[0] if isinstance(value, list) and value else value) in (int, float):
            yield prefix + key


def test_every_number_has_bounds():
    optional = {"model.width", "model.depth", "model.heads"}
    assert BOUNDS.keys() == {*numbers(PretrainConfig().to_dict()), *optional}


def with_value(key, value):
    settings = PretrainConfig().to_dict()
    *sections, name = key.split(".")
    section = settings
    for part in sections:
        section = section[part]
    section[name] = [value] * len(section[name]) if isinstance(section[name], list) else value
    return settings


@pytest.mark.parametrize(("key", "bounds"), BOUNDS.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_bounds_are_inside_and_what_is_beyond_is_named(key, bounds):
    low, high = bounds
    for value in (low, high):
        check_bounds(with_value(key, value))
    for value in (low - 1, math.nextafter(low, -1), high + 1, math.nan):
        with pytest.raises(InputError, match=rf"{key}=.*must lie between"):
            check_bounds(with_value(key, value))


@pytest.mark.parametrize("key", RANGES)
def test_a_range_that_ends_before_it_begins_is_refused(key):
    low, high = BOUNDS[key]
    settings = with_value(key, low)
    section, _, name = key.partition(".")
    settings[section][name] = [high, low]
    with pytest.raises(InputError, match=rf"{key}=.*from the smaller number to the larger"):
        check_bounds(settings)


def test_what_is_left_to_the_architecture_has_no_bounds():
    check_bounds(with_value("model.init_std", None))
