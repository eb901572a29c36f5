from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvd_curate.engine.artifacts import Workbench
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.errors import ShardsFailed
from lvd_curate.search.exact import search_exactly
from lvd_curate.search.pairs import join_pairs, read_pairs
from lvd_curate.search.pieces import Search
from lvd_curate.vectors import Vectors


@pytest.fixture
def vectors(tmp_path: Path) -> Vectors:
    draw = np.random.default_rng(5)
    stored = draw.normal(size=(2500, 8)).astype(np.float16)
    np.save(tmp_path / "vectors.npy", stored)
    return Vectors(tmp_path / "vectors.npy", draw.permutation(2500))


@pytest.mark.parametrize("max_bytes", [1 << 10, 1 << 30])
@pytest.mark.parametrize("count", [1, 6])
def test_queries_find_what_a_full_sort_finds_in_any_number_of_pieces(
    tmp_path: Path, vectors: Vectors, max_bytes: int, count: int
) -> None:
    queries, ids = vectors[:1300], np.arange(1300) + 10_000
    bench = Workbench(tmp_path / "bench", InlineExecutor(), max_bytes)
    files = search_exactly(queries, ids, vectors[1300:], Search(count, -1, within=False), bench)
    assert len(files) == (2 if max_bytes == 1 << 10 else 1)
    assert sorted(bench.folder.iterdir()) == files  # the pieces are gone
    found = join_pairs([read_pairs(file) for file in files])
    cosines = queries.load() @ vectors[1300:].load().T
    np.testing.assert_array_equal(found.first, np.repeat(ids, count))
    best = np.sort(cosines, axis=1)[:, ::-1][:, :count]
    mine = np.sort(found.similarity.reshape(1300, count), axis=1)[:, ::-1]
    np.testing.assert_allclose(mine, best, atol=1e-6)
    np.testing.assert_allclose(cosines[found.first - 10_000, found.second], found.similarity, atol=1e-6)


class Losing:
    """Loses one piece of work, as an executor does with one that failed three times."""

    def map(self, function: Callable[[Any], Any], shards: Sequence[Any]) -> Iterator[Any]:
        yield from (function(shard) for shard in shards[:1])
        yield from (function(shard) for shard in shards[2:])
        raise ShardsFailed({1: "killed"})


def test_what_follows_a_failed_piece_is_not_taken_for_it(tmp_path: Path, vectors: Vectors) -> None:
    found = {}
    for name in ("whole", "again"):
        bench = Workbench(tmp_path / name, InlineExecutor(), 1 << 10)
        job = (vectors, np.arange(2500), vectors, Search(3, -1, within=True))
        if name == "again":
            with pytest.raises(ShardsFailed):
                search_exactly(*job, bench._replace(executor=Losing()))
            assert len(list(bench.folder.glob("pairs-*"))) == 2  # of three blocks; the first lacks a piece
        found[name] = [file.read_bytes() for file in search_exactly(*job, bench)]
        assert not list(bench.folder.glob("piece-*"))
    assert found["again"] == found["whole"]
