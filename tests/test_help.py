"""The first a terminal shows: help at its narrowest, nothing cut off, no colour; a machine where nothing can begin."""

import importlib
import sys
import tempfile

import pytest
from typer.main import get_command


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("tool", ["curate", "pretrain", "evaluate"])
def test_help_fits_and_cuts_nothing_off(tool, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    application = get_command(importlib.import_module(f"lvd_{tool}.cli").app)
    for words in [[], *([name] for name in getattr(application, "commands", {}))]:
        monkeypatch.setattr(sys, "argv", [tool, *words, "--help"])
        with pytest.raises(SystemExit) as ended:
            application()
        page = capsys.readouterr().out
        assert ended.value.code == 0
        assert page.startswith(f"Usage: {tool}")
        assert "\x1b" not in page
        lines = page.splitlines()
        assert [line for line in lines if len(line) > columns] == []
        assert [line for line in lines if not words and line.endswith("...") and not line.startswith("Usage")] == []


@pytest.mark.parametrize("tool", ["curate", "pretrain", "evaluate"])
def test_a_machine_without_a_place_for_temporary_files_is_one_line(tool, monkeypatch, capsys):
    def none():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setattr(sys, "argv", [tool, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"lvd_{tool}.cli").main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{tool}: error: no folder takes temporary files; set TMPDIR")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("tool", "typed", "offered"), [("curate", "buil", "build-lvd"), ("evaluate", "few-shot-l", "few-shot-logistic")]
)
def test_a_shell_completes_commands(tool, typed, offered, monkeypatch, capsys):
    monkeypatch.setenv(f"_{tool.upper()}_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"{tool} {typed}")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setattr(sys, "argv", [tool])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"lvd_{tool}.cli").main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.split() == [offered]
