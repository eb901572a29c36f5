import logging

import pytest

from lvd_curate import progress


def test_lines_where_there_is_no_terminal(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with caplog.at_level(logging.INFO), progress.track("screen", 100) as advance:
        for _ in range(5):
            advance(20)
    assert caplog.messages[0].startswith("screen: 40 of 100 images, ")
    assert caplog.messages[0].endswith("s left")
    assert caplog.messages[-1].startswith("screen: 100 images in ")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress.track("embed", 10) as advance:
        advance(10)
    assert "embed" in (shown := capsys.readouterr().err)
    assert "10/10" in shown
