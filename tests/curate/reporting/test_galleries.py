from pathlib import Path

import polars as pl

from lvd_curate.reporting.galleries import (
    GROUP_MEMBERS,
    TOUCHES,
    choose_shown,
    gather_extremes,
    gather_groups,
    gather_hubs,
    gather_retrieved,
    gather_touches,
)
from lvd_curate.reporting.story import open_story


def table(**columns: list) -> pl.LazyFrame:
    return pl.LazyFrame(columns)


def test_the_largest_groups_come_first_their_least_alike_members_first() -> None:
    groups = gather_groups(
        table(
            id=list("abcdefgh"),
            component=[0, 0, 0, 3, 4, 4, 5, 5],
            representative=list("aaadeegh"),
            score=[1.0, 0.9, 0.95, 1.0, 1.0, 0.99, 1.0, 1.0],
            cut=[None, None, None, None, 0.7, 0.7, None, None],
        )
    )
    assert [(group.head.id, group.title) for group in groups] == [
        ("a", "3 images, least alike 0.900"),
        ("e", "2 images, least alike 0.990; part of a larger one, cut at 0.70"),
        ("g", "2 images"),
    ]
    assert [member.id for member in groups[0].members] == ["b", "c"]
    assert groups[2].members == [("h", "seed, stays")]  # two seeds: each stands for itself


def test_a_long_group_says_how_many_are_left_out() -> None:
    ids = [f"{place:02d}" for place in range(30)]
    none = [None] * 30
    (group,) = gather_groups(table(id=ids, component=[0] * 30, representative=["00"] * 30, score=[1.0] * 30, cut=none))
    assert len(group.members) == GROUP_MEMBERS
    assert group.more == 29 - GROUP_MEMBERS


def test_touches_show_the_closest_and_the_weakest_of_every_set() -> None:
    ids = [f"{place:02d}" for place in range(40)]
    scores = [place / 40 for place in range(40)]
    two = gather_touches(
        table(
            id=[*ids, "x", "y"],
            exclude_set=["a"] * 40 + ["b", "b"],
            reference_id=[*ids, "r", "r"],
            score=[*scores, 0.5, 0.6],
        )
    )
    assert [gallery.title for gallery in two] == ["a", "b"]
    shown = [strip.head.id for strip in two[0].strips]
    assert shown == ids[::-1][:TOUCHES] + ids[:TOUCHES][::-1]
    assert [(strip.head.id, strip.members[0].id) for strip in two[1].strips] == [("r", "y")]  # a reference once


def test_every_seed_set_and_mode_is_shown() -> None:
    picks = table(
        id=["x", "y", "x", "z"],
        seed_set=["s", "s", "t", "s"],
        mode=["sample", "sample", "sample", "cluster"],
        seed_id=["1", "1", "2", "1"],
        rank=[2, 1, 1, None],
        similarity=[0.5, 0.7, 0.6, 0.1],
    )
    galleries = gather_retrieved(picks)
    assert [gallery.title for gallery in galleries] == ["s, per seed image", "s, per cluster", "t, per seed image"]
    assert galleries[0].strips[0].members == [("y", "0.700"), ("x", "0.500")]
    (hub,) = gather_hubs(picks)
    assert hub.head == ("x", "2 seeds")
    assert hub.members == [("2", "0.600"), ("1", "0.500")]
    worst, best = gather_extremes(picks)
    assert worst.strips[0].members == [("z", "0.100")]
    assert best.strips[0].members == [("y", "0.700")]


def test_what_is_shown_is_chosen_once_and_always_alike(told: Path) -> None:
    story = open_story(told)
    shown = choose_shown(story)
    assert shown == sorted(set(shown)) == choose_shown(story)
    assert story.touches.collect()["reference_id"][0] in shown


def test_no_story_shows_nothing(told: Path) -> None:
    empty = open_story(told)
    assert choose_shown(empty._replace(**{name: frame.head(0) for name, frame in empty._asdict().items()})) == []
