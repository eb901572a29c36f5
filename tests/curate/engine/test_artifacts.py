import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from lvd_curate.config import ScreenConfig
from lvd_curate.engine import artifacts
from lvd_curate.engine.artifacts import (
    Artifact,
    ArtifactStore,
    build_table,
    compute_fingerprint,
    fingerprint_rows,
    lock_folder,
    publish_folder,
    write_whole,
)
from lvd_curate.errors import InputError

TABLE = pl.DataFrame({"n": [1, 2]})


def build(store: ArtifactStore, stage: Callable[[Path], pl.DataFrame], inputs: object = 1) -> Artifact:
    return store.open_or_build("t", partial(build_table, stage), version=1, config=ScreenConfig(), inputs=inputs)


def never(_: Path) -> pl.DataFrame:
    raise AssertionError("must not run")


def test_a_finished_artifact_is_opened_and_another_input_makes_another(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    assert build(store, lambda _: TABLE).table().equals(TABLE)
    assert build(store, never).table(["n"]).equals(TABLE)
    with pytest.raises(AssertionError, match="must not run"):
        build(store, never, inputs=2)


def test_pieces_of_a_broken_run_are_found_again_and_gone_when_the_artifact_is_there(tmp_path: Path) -> None:
    def leave_a_piece(pieces: Path) -> pl.DataFrame:
        (pieces / "half").write_bytes(b"done")
        raise KeyboardInterrupt

    def go_on(pieces: Path) -> pl.DataFrame:
        assert (pieces / "half").read_bytes() == b"done"
        return TABLE

    store = ArtifactStore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        build(store, leave_a_piece)
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
    artifact = build(store, go_on)
    assert sorted(path.name for path in artifact.path.iterdir()) == ["checksums.json", "shard-00000.parquet"]


def test_killed_between_checksums_and_its_name_an_artifact_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise KeyboardInterrupt

    store = ArtifactStore(tmp_path)
    with monkeypatch.context() as killed:
        killed.setattr(artifacts, "publish_folder", end)
        with pytest.raises(KeyboardInterrupt):
            build(store, lambda _: TABLE)
    build(store, never)
    assert build(store, never).table().equals(TABLE)


@pytest.mark.parametrize("gone", ["checksums.json", "shard-00000.parquet", "both"])
def test_an_artifact_half_removed_is_built_again(tmp_path: Path, gone: str, caplog: pytest.LogCaptureFixture) -> None:
    store = ArtifactStore(tmp_path)
    artifact = build(store, lambda _: TABLE)
    for file in artifact.path.iterdir():
        if gone in (file.name, "both"):
            file.unlink()
    with caplog.at_level("WARNING"):
        assert build(store, lambda _: TABLE).table().equals(TABLE)
    assert "incomplete (" in caplog.text
    assert "damaged" not in caplog.text, "no disk is failing"
    build(store, never)


def test_a_changed_byte_is_told_as_what_a_disk_does(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = ArtifactStore(tmp_path)
    file = build(store, lambda _: TABLE).files()[0]
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with caplog.at_level("WARNING"):
        build(store, lambda _: TABLE)
    assert f"{file.parent}: damaged ({file.name} is not as it was written" in caplog.text


def test_a_removal_that_is_killed_is_known_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def end(*_: object) -> None:
        raise KeyboardInterrupt

    store = ArtifactStore(tmp_path)
    file = build(store, lambda _: TABLE).files()[0]
    file.write_bytes(b"")
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", end)
        with pytest.raises(KeyboardInterrupt):
            build(store, lambda _: TABLE)
    caplog.clear()
    with caplog.at_level("WARNING"):
        assert build(store, lambda _: TABLE).table().equals(TABLE)
    assert "removal was ended" in caplog.text


@pytest.mark.parametrize("noted", [b"", b"[1]", b"3", b'{"shard-00000.parquet": 0}', b'{"shard-00001.parquet": 0}'])
def test_checksums_that_are_none_of_an_artifact_have_it_built_again(tmp_path: Path, noted: bytes) -> None:
    store = ArtifactStore(tmp_path)
    (build(store, lambda _: TABLE).path / "checksums.json").write_bytes(noted)
    with pytest.raises(AssertionError, match="must not run"):
        build(store, never)


def test_equal_rows_have_equal_fingerprints_and_others_do_not() -> None:
    rows = pl.DataFrame({"a": ["x", None], "b": [b"\xff", b""]})
    again = pl.concat([rows[:1], rows[1:]])
    others = [
        rows[::-1],
        rows.with_columns(a=pl.lit("x")),
        rows.with_columns(a=pl.Series(["x", ""])),
        rows.rename({"a": "c"}),
    ]
    assert fingerprint_rows(again) == fingerprint_rows(rows)
    assert len({fingerprint_rows(table) for table in (rows, *others)}) == 5


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


def test_rows_are_hashed_alike_however_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pl.DataFrame({"id": ["a", "", None, "d,e"], "data": [b"1", b"2", None, b""]})
    whole = fingerprint_rows(table)
    monkeypatch.setattr(artifacts, "HASHED", 3)
    assert fingerprint_rows(table) == whole
