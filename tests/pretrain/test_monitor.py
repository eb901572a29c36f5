import json

import pytest

from lvd_pretrain.monitor import Monitor

VALUES = {"loss": 1.5, "images_per_second": 10.0}


def test_plain_lines_without_a_terminal_and_one_record_per_log(tmp_path, capsys):
    with Monitor(tmp_path / "metrics.jsonl", 0, 4, active=True) as monitor:
        monitor.log(2, VALUES)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 2, **VALUES}
    said = capsys.readouterr().err
    assert "step 2/4" in said
    assert "eta" in said


@pytest.mark.parametrize(("terminal", "lines"), [("dumb", 1), ("xterm", 0)])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(terminal, lines, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", terminal)
    with Monitor(tmp_path / "metrics.jsonl", 0, 4, active=True) as monitor:
        monitor.log(2, VALUES)
    assert capsys.readouterr().err.count("step 2/4") == lines


def test_lines_of_lost_steps_are_dropped_on_resume(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 2, 3)) + '{"step": 4, "lo')
    with Monitor(path, 2, 9, active=True) as monitor:
        monitor.log(3, VALUES)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_other_ranks_stay_silent(tmp_path, capsys):
    with Monitor(tmp_path / "metrics.jsonl", 0, 4, active=False) as monitor:
        monitor.log(1, VALUES)
        monitor.say("hello")
    assert not (tmp_path / "metrics.jsonl").exists()
    assert capsys.readouterr().err == ""
