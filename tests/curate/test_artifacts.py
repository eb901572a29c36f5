import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import polars as pl
import pytest

from lvd_curate.artifacts import ArtifactStore, compute_fingerprint, lock_folder, publish_folder, write_whole
from lvd_curate.config import ScreenConfig
from lvd_curate.errors import InputError
from lvd_curate.executors import InlineExecutor

SHARDS = [pl.DataFrame({"n": [1, 2]}), pl.DataFrame({"n": [3]})]


def silent(_: str, __: int) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda _: None)


def run(store: ArtifactStore, stage: Callable[[pl.DataFrame], pl.DataFrame], inputs: object = "a") -> pl.DataFrame:
    return store.open_or_build_shards(
        "double", stage, SHARDS, InlineExecutor(), version=1, config=ScreenConfig(), inputs=inputs, track=silent
    ).table()


def double(shard: pl.DataFrame) -> pl.DataFrame:
    return shard * 2


def never(_: pl.DataFrame) -> pl.DataFrame:
    raise AssertionError("must not run")


def test_a_finished_artifact_is_opened_and_another_input_makes_another(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    assert run(store, double)["n"].to_list() == [2, 4, 6]
    assert run(store, never)["n"].to_list() == [2, 4, 6]
    with pytest.raises(AssertionError, match="must not run"):
        run(store, never, inputs="b")


def test_whole_shards_of_a_broken_run_stay(tmp_path: Path) -> None:
    def fail_on_second(shard: pl.DataFrame) -> pl.DataFrame:
        return double(shard) if shard["n"][0] == 1 else never(shard)

    def fail_on_first(shard: pl.DataFrame) -> pl.DataFrame:
        return double(shard) if shard["n"][0] == 3 else never(shard)

    store = ArtifactStore(tmp_path)
    with pytest.raises(AssertionError):
        run(store, fail_on_second)
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
    assert run(store, fail_on_first)["n"].to_list() == [2, 4, 6]


def test_a_stage_that_loses_rows_is_our_mistake(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="rows for a shard of"):
        run(ArtifactStore(tmp_path), lambda shard: shard.head(0))


def test_one_table_is_built_once(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    built = [store.open_or_build("t", lambda: SHARDS[0], version=1, config=None, inputs=1) for _ in range(2)]
    assert built[0] == built[1]
    assert built[0].table().equals(SHARDS[0])


def test_fingerprints_tell_stage_version_config_and_inputs_apart() -> None:
    calls = [("s", 1, ScreenConfig(), "i"), ("t", 1, ScreenConfig(), "i"), ("s", 2, ScreenConfig(), "i")]
    calls += [("s", 1, ScreenConfig(min_side=9), "i"), ("s", 1, ScreenConfig(), "j")]
    assert len({compute_fingerprint(*call) for call in calls}) == len(calls)
    assert compute_fingerprint(*calls[0]) == compute_fingerprint("s", 1, ScreenConfig(), "i")


def test_a_file_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "x"

    def write() -> None:
        with write_whole(file) as stream:
            stream.write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_publishing_sweeps_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / "draft/data").mkdir(parents=True)
    (tmp_path / "draft/data/.train.parquet.123.tmp").write_bytes(b"half")
    (tmp_path / "draft/data/train.parquet").write_bytes(b"whole")
    publish_folder(tmp_path / "draft", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out/data").iterdir()] == ["train.parquet"]
    assert not (tmp_path / "draft").exists()


def test_a_folder_is_one_runs_at_a_time(tmp_path: Path) -> None:
    with lock_folder(tmp_path), pytest.raises(InputError, match="another run"), lock_folder(tmp_path):
        pass
    with lock_folder(tmp_path):
        assert os.listdir(tmp_path) == ["lock"]
