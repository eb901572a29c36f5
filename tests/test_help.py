"""Help at the narrowest terminals: nothing cut off, nothing wider than the screen, no colour."""

import importlib
import sys

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
