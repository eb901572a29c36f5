"""evaluate on what others made, which may be wrong or made to do harm: one line, nothing run, nothing lost.

docs/threats.md promises what the tests of this folder hold it to.
"""

import shutil
import sys

import pytest

from lvd_evaluate import cli

FAST = ("bootstrap=50", "knn.neighbours=[3]")
TITLE = "<img src=x onerror=document.title='pwned'><script>document.title='pwned'</script>"
CODES = "\x1b]0;pwned\x07\x1b[2J\u202e\udcff"


@pytest.fixture
def call(monkeypatch, capsys):
    """`call("report", folder)`: exit code, stdout and stderr of evaluate in this process."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        printed = capsys.readouterr()
        for text in printed:
            assert "\x1b" not in text
            assert "Traceback" not in text
        return int(stopped.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def knn(call, corpus, run_folder, tmp_path):
    """`knn(ckpt=..., data=...)`: the same of a small evaluate knn."""

    def run(*words: object, ckpt: object = run_folder, data: object = corpus, out: object = None):
        return call("knn", "--ckpt", ckpt, "--data", data, "--out", out or tmp_path / "out", *FAST, *words)

    return run


@pytest.fixture
def refuse(knn):
    """`refuse(ckpt=..., data=...)`: its one error line."""

    def run(*words: object, **places: object) -> str:
        code, _, told = knn(*words, **places)
        line = told.splitlines()[-1]
        assert code == 2
        assert line.startswith("evaluate: error: ")
        assert not any(0x7F <= ord(letter) < 0xA0 for letter in line)
        return line

    return run


@pytest.fixture
def model(run_folder, tmp_path):
    """A copy of a Model v1 folder."""
    return shutil.copytree((run_folder / "model").resolve(), tmp_path / "model")


@pytest.fixture
def expect_harmless(browse, tmp_path):
    """`expect_harmless(out, printed)`: markup in what was evaluated is text in the page and in what was printed."""

    def expect(out, printed: str) -> None:
        assert "<img" not in printed
        page = (out / "report.html").read_text()
        assert "<img src=x" not in page
        assert "&lt;img src=x" in page
        assert page.count("<script>") == 1
        html = browse(out / "report.html", tmp_path / "profile")
        assert html.partition("<title>")[2].partition("</title>")[0] == "evaluate: frozen features"

    return expect
