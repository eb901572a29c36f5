"""Work in shards: what is finished stays, what fails is named, vectors become one matrix."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from lvd_curate.engine.artifacts import Artifact, ArtifactStore
from lvd_curate.engine.executors import InlineExecutor
from lvd_curate.engine.runner import Runner
from lvd_curate.engine.shards import ShardStage, build_shards
from lvd_curate.errors import InputError


class Numbers(NamedTuple):
    """A piece of work for these tests."""

    values: list[int]

    def load(self) -> pl.DataFrame:
        return pl.DataFrame({"n": self.values})

    def __len__(self) -> int:
        return len(self.values)

    def __str__(self) -> str:
        return f"numbers from {self.values[0]}"


PIECES = [Numbers([1, 2]), Numbers([3]), Numbers([4, 5, 6])]


def run(store: ArtifactStore, stage: ShardStage, *, set_aside: bool = False) -> Artifact:
    runner = Runner(store, InlineExecutor(), 10**8, set_aside)
    return runner.shards("double", stage, PIECES, version=1, config=None, inputs=None)


def double(rows: pl.DataFrame) -> pl.DataFrame:
    return rows * 2


def give_up(rows: pl.DataFrame, error: str) -> pl.DataFrame:
    assert "no threes" in error
    return rows.with_columns(n=pl.lit(None, pl.Int64), square=pl.lit(None, pl.Binary))


def with_squares(stage: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def run(rows: pl.DataFrame) -> pl.DataFrame:
        squares = [np.int64(n * n).tobytes() for n in rows["n"]]
        return stage(rows).with_columns(square=pl.Series(squares, dtype=pl.Binary))

    return run


def only(number: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def run(rows: pl.DataFrame) -> pl.DataFrame:
        assert rows["n"].to_list() == [number]
        return double(rows)

    return run


def no_threes(rows: pl.DataFrame) -> pl.DataFrame:
    if 3 in rows["n"]:
        raise ValueError("no threes")
    return double(rows)


def test_a_failing_shard_stops_no_other_and_is_named(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with pytest.raises(InputError, match=r"double: shard 1 \(numbers from 3\): ValueError: no threes .*three times"):
        run(store, ShardStage(no_threes))
    done = sorted(file.name for file in tmp_path.rglob("*.parquet"))
    assert done == ["shard-00000.parquet", "shard-00002.parquet"]
    only_threes = ShardStage(lambda rows: double(rows.filter(pl.col("n") == 3)))
    assert run(store, only_threes).table()["n"].to_list() == [2, 4, 6, 8, 10, 12]


def test_a_failing_shard_may_be_set_aside_until_it_works(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    failing = ShardStage(with_squares(no_threes), matrices={"square": "<i8"}, fallback=give_up)
    given_up = run(store, failing, set_aside=True)
    assert given_up.table()["n"].to_list() == [2, 4, None, 8, 10, 12]
    assert np.load(given_up.matrix("square")).ravel().tolist() == [1, 4, 0, 16, 25, 36]
    assert run(store, failing, set_aside=True) == given_up
    with pytest.raises(InputError, match="three times"):
        run(store, failing)
    mended = ShardStage(with_squares(only(3)), matrices={"square": "<i8"}, fallback=give_up)  # the others are there
    whole = run(store, mended)
    assert whole.table()["n"].to_list() == [2, 4, 6, 8, 10, 12]
    assert np.load(whole.matrix("square")).ravel().tolist() == [1, 4, 9, 16, 25, 36]
    assert whole.fingerprint != given_up.fingerprint


def test_a_stage_that_loses_rows_is_our_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rows for a shard of"):
        run(ArtifactStore(tmp_path), ShardStage(lambda rows: rows.head(0)))


def describe(rows: pl.DataFrame) -> pl.DataFrame:
    """Vectors of two numbers, none for odd ones."""
    values = [np.array([n, -n], dtype="<f2").tobytes() if n % 2 == 0 else None for n in rows["n"]]
    return rows.with_columns(vector=pl.Series(values, dtype=pl.Binary))


def test_vectors_become_one_matrix_with_zeros_where_there_are_none(tmp_path: Path) -> None:
    stage = ShardStage(describe, matrices={"vector": "<f2"}, bad=~pl.col("vector"))
    told: list[tuple[int, int]] = []

    @contextmanager
    def listen(_: str, total: int, shards: int) -> Iterator[Callable[[int, int], None]]:
        assert (total, shards) == (6, 3)
        yield lambda rows, bad: told.append((rows, bad))

    build = partial(build_shards, "v", stage, PIECES, InlineExecutor(), listen)
    artifact = ArtifactStore(tmp_path).open_or_build("v", build, version=1, config=None, inputs=None)
    matrix = np.load(artifact.matrix("vector"), mmap_mode="r")
    assert matrix.dtype == np.dtype("<f2")
    assert matrix.tolist() == [[0, 0], [2, -2], [0, 0], [4, -4], [0, 0], [6, -6]]
    assert artifact.table()["vector"].to_list() == [False, True] * 3
    assert told == [(2, 1), (1, 1), (3, 1)]
    files = sorted(path.name for path in artifact.path.iterdir())
    assert files == ["checksums.json", *(f"shard-0000{n}.parquet" for n in range(3)), "vector.npy"]


def test_no_vector_anywhere_is_a_matrix_without_columns(tmp_path: Path) -> None:
    nothing = ShardStage(lambda rows: rows.with_columns(vector=pl.lit(None, pl.Binary)), matrices={"vector": "<f2"})
    assert np.load(run(ArtifactStore(tmp_path), nothing).matrix("vector")).shape == (6, 0)
