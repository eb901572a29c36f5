import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvd_curate.sample_corpus.plan import PLANTED, plan_pool, plan_seeds
from lvd_curate.sample_corpus.world import CLASSES, OTHER_CLASSES


@settings(max_examples=40, deadline=None)
@given(images=st.integers(24, 600), tests=st.integers(12, 200), seed=st.integers(0, 2**32))
def test_every_file_is_one_thing(images, tests, seed):
    pool = plan_pool(images, tests, np.random.default_rng(seed))
    assert [file.index for file in pool] == list(range(images))
    assert len({file.path for file in pool}) == images
    assert sum(file.kind != "original" for file in pool) == round(0.12 * images)
    for file in pool:
        if file.kind == "test_copy":
            assert file.label == file.of % 12 < 12
            assert file.of < tests
        elif file.of is not None:
            assert pool[file.of].kind == "original"
            assert pool[file.of].label == file.label
        else:
            assert file.kind in ("original", "broken", "mislabelled")
        assert (file.label is None) == (file.kind == "broken" or file.method in ("html", "text"))


def test_all_methods_are_planted_in_a_small_pool():
    pool = plan_pool(150, 24, np.random.default_rng(0))
    assert {(file.kind, file.method) for file in pool if file.method} == set(PLANTED)


def test_pool_has_a_long_tail_and_a_third_of_its_classes_is_outside_the_seeds():
    labels = [file.label for file in plan_pool(3000, 600, np.random.default_rng(0)) if file.kind == "original"]
    counts = sorted(Counter(labels).values(), reverse=True)
    assert len(counts) == len(CLASSES) == 3 * len(OTHER_CLASSES)
    assert counts[0] > 8 * counts[-1]
    assert counts[-1] >= 20


def test_names_tell_nothing():
    pool = plan_pool(2000, 400, np.random.default_rng(1))
    assert not any(kind.name in file.path or file.kind in file.path for file in pool for kind in CLASSES)
    numbers = [int(file.path.rsplit("_", 1)[1].removesuffix(".jpg")) for file in pool]
    labels = [-1 if file.label is None else file.label for file in pool]
    assert abs(np.corrcoef(numbers, labels)[0, 1]) < 0.1
    assert abs(np.corrcoef(numbers, [file.kind == "original" for file in pool])[0, 1]) < 0.1


def test_folders_differ_in_size():
    counts = Counter(file.path.rsplit("/", 1)[0] for file in plan_pool(1000, 200, np.random.default_rng(2)))
    assert len(counts) == 6
    assert max(counts.values()) > 4 * min(counts.values())


def test_seeds_are_balanced_and_their_names_tell_nothing():
    seeds = plan_seeds(120, np.random.default_rng(3))
    assert set(Counter(file.label for file in seeds).values()) == {10}
    assert len({file.path for file in seeds}) == 120
    in_order = [file.label for file in sorted(seeds, key=lambda file: file.path)]
    assert in_order != [file.label for file in seeds]


@pytest.mark.parametrize("kind", ["jpeg", "resize", "test_copy", "broken", "original"])
def test_truth_names_partner_and_parameters(kind):
    pool = plan_pool(150, 24, np.random.default_rng(4))
    file = next(file for file in pool if file.kind == kind)
    truth = file.truth(pool)
    parameters = json.loads(truth["parameters"])
    assert truth["path"] == file.path
    assert truth["in_seeds"] == (file.label is not None and file.label < 12)
    match kind:
        case "jpeg" | "resize":
            assert truth["of"] == pool[file.of].path
            assert 30 <= parameters["quality"] <= 90
            assert 0.5 <= parameters.get("scale", 1.0) <= 1.5
        case "test_copy":
            assert truth["of"] == f"test/{file.of}"
        case "broken":
            assert truth["of"] is truth["label"] is None
            assert parameters["method"] in ("truncated", "empty", "random")
        case "original":
            assert truth["of"] is None
            assert parameters == {}
