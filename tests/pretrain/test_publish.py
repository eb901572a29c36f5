import pytest
from safetensors import SafetensorError

from lvd_pretrain.errors import InputError
from lvd_pretrain.publish import explain_failed_writes, publish


def test_published_folder_replaces_the_old_one_whole(tmp_path):
    for name, content in (("new.partial", "new"), ("thing", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(content)
    (tmp_path / "thing" / "leftover").write_text("old")
    publish(tmp_path / "new.partial", tmp_path / "thing")
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]
    assert [path.name for path in (tmp_path / "thing").iterdir()] == ["file"]
    assert (tmp_path / "thing/file").read_text() == "new"


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
