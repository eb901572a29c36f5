import pytest

from lvd_evaluate.publish import publish_bytes, publish_folder


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "file"
    publish_bytes(path, b"one")
    publish_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


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
