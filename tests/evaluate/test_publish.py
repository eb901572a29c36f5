import errno
import os

import pytest

from lvd_evaluate.publish import publish_bytes, publish_folder


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "file"
    publish_bytes(path, b"one")
    publish_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_file_leaves_nothing_and_keeps_the_old(tmp_path, monkeypatch):
    publish_bytes(tmp_path / "file", b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        publish_bytes(tmp_path / "file", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_a_failed_folder_leaves_nothing(tmp_path):
    def fail():
        with publish_folder(tmp_path / "shard") as folder:
            (folder / "half").write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_process_published_first_stays(tmp_path):
    with publish_folder(tmp_path / "shard") as folder:
        (folder / "value").write_text("late")
        (tmp_path / "shard").mkdir()
        (tmp_path / "shard" / "value").write_text("early")
    assert (tmp_path / "shard" / "value").read_text() == "early"
    assert len(list(tmp_path.iterdir())) == 1
