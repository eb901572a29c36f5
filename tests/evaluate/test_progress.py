import logging

from lvd_evaluate import progress


def test_without_a_terminal_lines_tell_rate_and_remaining_time(monkeypatch, caplog):
    clock = iter([0.0, 4.0, 20.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
    with caplog.at_level(logging.INFO), progress.track("reading", 100, "images", done=20) as advance:
        advance(10)  # after 4 s: too early for a line
        advance(30)  # after 20 s: 40 fresh images, 40 left
    assert caplog.messages == ["reading: 60/100 images, 2.0/s, 20 s left"]


def test_on_a_terminal_a_bar_is_drawn(monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with progress.track("reading", 4, "images") as advance:
        advance(4)
    assert "4/4 images" in capsys.readouterr().err


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch, caplog, capsys):
    clock = iter([0.0, 20.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    with caplog.at_level(logging.INFO), progress.track("reading", 4, "images") as advance:
        advance(2)
    assert caplog.messages == ["reading: 2/4 images, 0.1/s, 20 s left"]
    assert "━" not in capsys.readouterr().err
