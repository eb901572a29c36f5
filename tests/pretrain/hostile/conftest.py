"""pretrain on what others made, which may be wrong or made to do harm: one line, nothing run, nothing lost.

docs/threats.md promises what the tests of this folder hold it to.
"""

import shutil
import sys
from pathlib import Path

import pytest
from tests.pretrain.conftest import TINY

from lvd_pretrain import cli
from lvd_pretrain.train import pretrain


@pytest.fixture
def refuse(monkeypatch, capsys, images, tmp_path):
    """`refuse("init_from=x.pth", ...)`: pretrain's one error line; whatever it says must fit on it."""

    def run(*words: str, recipe: Path | None = None) -> str:
        standing = [] if recipe else [*TINY, f"data.path={images}"]
        out = () if any(word.startswith("out=") for word in words) else (f"out={tmp_path / 'run'}",)
        monkeypatch.setattr(sys, "argv", ["pretrain", *([str(recipe)] if recipe else []), *standing, *out, *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        lines = capsys.readouterr().err.splitlines()
        assert stopped.value.code == 2
        assert lines[-1].startswith("pretrain: error: ")
        assert not any("Traceback" in line for line in lines)
        assert lines[-1].isprintable()
        return lines[-1]

    return run


@pytest.fixture(scope="session")
def stopped_run(tiny_at, tmp_path_factory):
    """A run of one step out of two."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    return pretrain(tiny_at(out, "optim.steps=1", "optim.warmup=0", "trackers=[]"))


@pytest.fixture
def model(stopped_run, tmp_path):
    """A copy of its Model v1 folder."""
    return shutil.copytree((stopped_run / "model").resolve(), tmp_path / "model")
