import logging

import pytest

from lvd_curate.engine import progress


def test_lines_where_there_is_no_terminal(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO), progress.track("screen", 100, 5) as advance:
        for _ in range(5):
            now[0] += 6.0
            advance(20, 1)
    assert caplog.messages[0].startswith("screen: 40 of 100 images, ")
    assert caplog.messages[0].endswith("s left")
    assert ", shard 2 of 5, 5.0 % bad, " in caplog.messages[0]
    assert caplog.messages[-1].startswith("screen: 100 images in ")
    assert caplog.messages[-1].endswith(" GB")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress.track("embed", 10, 1) as advance:
        advance(10, 0)
    assert "embed" in (shown := capsys.readouterr().err)
    assert "10/10" in shown


def test_lines_on_a_terminal_that_cannot_move_its_cursor(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    with caplog.at_level(logging.INFO), progress.track("embed", 10, 1) as advance:
        advance(10, 0)
    assert caplog.messages[-1].startswith("embed: 10 images in ")
