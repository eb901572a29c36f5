"""The page of the first hour: the README's commands, each with what it printed; and the script that records it."""

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
blocks, transcript = map(importlib.import_module, ("blocks_in_docs", "transcript"))
PAGE = (ROOT / "docs" / "first-hour.md").read_text(encoding="utf-8")


def list_tool_lines(text: str) -> list[str]:
    lines = [
        re.sub(r"\s+", " ", line.split(" # ")[0]).strip()
        for block in blocks.list_blocks(text)
        if block.language == "bash"
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    return [line for line in lines if re.match(r"(curate|pretrain|evaluate) ", line)]


def test_the_page_runs_the_commands_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert list_tool_lines(PAGE) == list_tool_lines(readme)
    assert len(list_tool_lines(PAGE)) > 8


def test_every_command_of_the_page_has_its_recorded_output():
    run = [block for block in blocks.list_blocks(PAGE) if block.language in transcript.RUNNERS and not block.needs]
    pairs = list(transcript.PAIR.finditer(PAGE))
    assert [found["text"] for found in pairs] == [block.text for block in run]
    for found in pairs:
        lines = found["said"].splitlines()
        assert re.fullmatch(r"\[\d+ s\]", lines[-1])
        assert 2 <= len(lines) <= transcript.LONG + 1
        assert [line for line in lines if len(line) > transcript.COLUMNS and not line.startswith("|")] == []
    assert re.search(r"^Recorded 20\d\d-\d\d-\d\d by ", PAGE, re.MULTILINE)


def test_outputs_follow_the_rules():
    assert transcript.trim("one\ntwo\n", 3.4) == "one\ntwo\n[3 s]\n"
    assert transcript.trim("0 %\r50 %\r100 %\ndone\n", 0) == "100 %\ndone\n[0 s]\n"
    long = "\n".join(map(str, range(40)))
    kept = transcript.trim(long, 1).splitlines()
    assert kept == [*"01234", "[28 lines]", *map(str, range(33, 40)), "[1 s]"]
    folded = transcript.fold("word " * 40)
    assert max(map(len, folded)) <= 80
    assert " ".join(line.strip() for line in folded) == ("word " * 40).strip()
    row = "| " + "x" * 100 + " |"
    assert transcript.fold(row) == [row]


@pytest.fixture
def small_page(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("Recorded never.\n\n```bash\necho $COLUMNS > size\ncat size; echo wrong >&2\n```\n\n```text\n```\n")
    monkeypatch.setattr(sys, "argv", ["transcript.py", str(page)])
    return page


def test_a_page_is_recorded_below_its_commands(small_page):
    assert transcript.main() == 0
    assert small_page.read_text().endswith("\n```text\n80\nwrong\n[0 s]\n```\n")
    assert "Recorded never." not in small_page.read_text()
    recorded = small_page.read_text()
    assert transcript.main() == 0
    assert small_page.read_text() == recorded


def test_a_command_that_fails_leaves_the_page_as_it_was(small_page, capsys):
    small_page.write_text(small_page.read_text().replace("cat size", "cat none"))
    before = small_page.read_text()
    assert transcript.main() == 1
    assert small_page.read_text() == before
    assert "No such file" in capsys.readouterr().out
