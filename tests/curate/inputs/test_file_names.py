import os
from pathlib import Path

import pytest

from lvd_curate.inputs.file_names import is_regular, show_name, show_text, stamp_file


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"caf\xe9.jpg", "caf\\xe9.jpg"),
        ("caf\udce9.jpg", "caf\\xe9.jpg"),
        ("café 猫\u3000.jpg", "café 猫\u3000.jpg"),
        ("a\nb\x1b[31m.jpg", "a\\nb\\x1b[31m.jpg"),
        ("gpj.\u202etxe", "gpj.\\u202etxe"),
        ("\u200fcod\u200e.jpg", "\\u200fcod\\u200e.jpg"),
        ("half \ud800.jpg", "half \\ud800.jpg"),
        (os.fsdecode("gpj.\u202etxe".encode("utf-8")), "gpj.\\u202etxe"),
    ],
)
def test_any_name_is_one_line_of_text(name: bytes | str, shown: str) -> None:
    assert show_name(name) == shown


def test_text_keeps_its_lines_and_nothing_else_that_a_terminal_obeys() -> None:
    assert show_text("one\r\n\x1b]0;two\x07\n") == "one\\r\n\\x1b]0;two\\x07\n"


def test_a_stamp_follows_the_file(tmp_path: Path) -> None:
    file = os.fsencode(tmp_path / "x")
    assert stamp_file(file) == 0
    (tmp_path / "x").write_bytes(b"1")
    first = stamp_file(file)
    assert stamp_file(file) == first > 0
    os.utime(file, (1, 1))
    assert stamp_file(file) != first


def test_pipes_and_folders_are_no_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    kinds = {name: is_regular(os.fsencode(tmp_path / name)) for name in ("pipe", "file", "link", ".")}
    assert kinds == {"pipe": False, "file": True, "link": True, ".": False}
