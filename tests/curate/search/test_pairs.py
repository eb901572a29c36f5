from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvd_curate.search import pairs
from lvd_curate.search.pairs import Pairs, join_pairs, keep_best, merge_files, unify, write_pairs

triples = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from([0.1, 0.2, 0.3])), unique=True)


def as_pairs(rows: list[tuple[int, int, float]]) -> Pairs:
    first, second, similarity = zip(*rows, strict=True) if rows else ((), (), ())
    return Pairs(np.array(first, np.int64), np.array(second, np.int64), np.array(similarity, np.float32))


def as_rows(found: Pairs) -> list[tuple[int, int, float]]:
    return [(int(a), int(b), round(float(s), 3)) for a, b, s in zip(*found, strict=True)]


@given(triples, st.integers(1, 4))
def test_the_best_of_each_query_are_kept_and_equals_go_to_the_lowest(
    rows: list[tuple[int, int, float]], count: int
) -> None:
    expected = []
    for query in range(7):
        mine = sorted((row for row in rows if row[0] == query), key=lambda row: (-row[2], row[1]))
        expected += mine[:count]
    assert as_rows(keep_best(as_pairs(rows), count)) == expected


@given(st.dictionaries(st.tuples(st.integers(0, 6), st.integers(0, 6)), st.just(0.5)))
def test_a_pair_seen_from_both_ends_is_one_pair(rows: dict[tuple[int, int], float]) -> None:
    found = as_pairs([(*ends, score) for ends, score in rows.items()])
    assert as_rows(unify(found, undirected=False)) == sorted((*ends, 0.5) for ends in rows)
    assert as_rows(unify(found, undirected=True)) == sorted({(*sorted(ends), 0.5) for ends in rows})


@pytest.mark.parametrize("at_once", [1, 50, 1 << 20])
def test_files_merge_into_one_ordered_stream_without_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(pairs, "PAIRS_AT_ONCE", at_once)
    draw = np.random.default_rng(0)
    files, everything = [], set()
    for number in range(4):
        first, second = draw.integers(0, 40, (2, 300))
        found = Pairs(first, second, (first / 64 + second / 4096).astype(np.float32))
        everything |= set(as_rows(found))
        files.append(tmp_path / f"{number}.npy")
        write_pairs(unify(found, undirected=False), files[-1])
    streamed = [row for part in merge_files(files, 40) for row in as_rows(part)]
    assert streamed == sorted(everything)
    assert len(list(merge_files(files, 40))) == {1: 40, 50: 20, 1 << 20: 1}[at_once]


def test_no_pairs_are_pairs_too(tmp_path: Path) -> None:
    nothing = join_pairs([])
    assert as_rows(keep_best(nothing, 3)) == as_rows(unify(nothing, undirected=True)) == []
    write_pairs(nothing, tmp_path / "none.npy")
    assert list(merge_files([tmp_path / "none.npy"], 5)) == []
