import shutil
from pathlib import Path

import pytest
from safetensors import SafetensorError

from lvd_pretrain.errors import InputError
from lvd_pretrain.publish import clear_leftovers, explain_failed_writes, publish


def test_published_folder_replaces_the_old_one_whole(tmp_path):
    for name, content in (("new.partial", "new"), ("thing", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(content)
    (tmp_path / "thing" / "leftover").write_text("old")
    publish(tmp_path / "new.partial", tmp_path / "thing")
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]
    assert [path.name for path in (tmp_path / "thing").iterdir()] == ["file"]
    assert (tmp_path / "thing/file").read_text() == "new"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_whenever_a_publication_is_killed_the_next_run_finds_one_whole_folder_and_nothing_beside(
    tmp_path, monkeypatch, caplog, renames
):
    for name, content in ((".step_7.partial", "new"), ("step_7", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(content)
    real, left = Path.rename, iter(range(renames))

    def rename(path, target):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(path, target)

    def remove(path, ignore_errors=False):
        if Path(path).exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(Path, "rename", rename)
        killed.setattr(shutil, "rmtree", remove)
        with pytest.raises(KeyboardInterrupt):
            publish(tmp_path / ".step_7.partial", tmp_path / "step_7")
    assert len(names(tmp_path)) == 2
    clear_leftovers(tmp_path)
    assert names(tmp_path) == ["step_7"]
    assert (tmp_path / "step_7/file").read_text() == ("new" if renames == 2 else "old")
    assert ("back in its place" in caplog.text) == (renames == 1)


def test_leftovers_are_those_of_steps_alone(tmp_path):
    for name in (".notes.old", ".mine.partial", "step_7.old"):
        (tmp_path / name).mkdir()
    clear_leftovers(tmp_path)
    clear_leftovers(tmp_path / "nowhere")
    assert names(tmp_path) == [".mine.partial", ".notes.old", "step_7.old"]


@pytest.mark.parametrize(
    "error", [RuntimeError("unexpected pos 704"), OSError(28, "No space left"), SafetensorError("lost")]
)
def test_a_failed_write_is_one_line_with_the_space_left(tmp_path, error):
    with (
        pytest.raises(InputError, match=r"step_9 could not be written, \d+ MB are free.*make room"),
        explain_failed_writes(tmp_path / "step_9"),
    ):
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, AssertionError, KeyError])
def test_interrupts_and_our_own_mistakes_stay_what_they_are(tmp_path, error):
    with pytest.raises(error), explain_failed_writes(tmp_path / "step_9"):
        raise error
