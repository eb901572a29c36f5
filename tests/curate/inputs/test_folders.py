import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lvd_curate.errors import InputError
from lvd_curate.inputs import folders
from lvd_curate.inputs.folders import expand_braces, expand_pattern, list_paths, pattern_root, walk_files

NAMES = st.text("abA.-_~ é", min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.lists(NAMES, min_size=1, max_size=4).map(tuple), max_size=15))
def test_a_walk_is_every_file_in_the_order_of_its_path(
    tmp_path_factory: pytest.TempPathFactory, wanted: set[tuple[str, ...]]
) -> None:
    root = tmp_path_factory.mktemp("walk")
    made = set()
    for parts in sorted(wanted):
        try:
            root.joinpath(*parts[:-1]).mkdir(parents=True, exist_ok=True)
            root.joinpath(*parts).write_bytes(b"")
        except OSError:  # a file where a folder is wanted, or the other way round
            continue
        made.add(os.fsencode(root.joinpath(*parts)))
    assert list(walk_files(root)) == sorted(made)


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/loop.jpg").symlink_to(tmp_path)
    assert list(walk_files(tmp_path)) == [os.fsencode(tmp_path / "a/loop.jpg")]


@pytest.mark.parametrize(
    ("error", "message"),
    [(PermissionError(13, "Permission denied"), "may not be read"), (FileNotFoundError(2, "none"), "went away")],
)
def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, message: str
) -> None:
    def refuse(_: bytes) -> None:
        raise error

    monkeypatch.setattr(folders.os, "scandir", refuse)
    with pytest.raises(InputError, match=f"{tmp_path} {message}"):
        list(walk_files(tmp_path))


def test_a_failing_disk_keeps_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> None:
        raise OSError(5, "Input/output error", str(tmp_path))

    monkeypatch.setattr(folders.os, "scandir", fail)
    with pytest.raises(OSError, match="Input/output error") as found:
        list(walk_files(tmp_path))
    assert found.value.errno == 5


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("x-{008..011}.tar", ["x-008.tar", "x-009.tar", "x-010.tar", "x-011.tar"]),
        ("{b,a}/{0..1}", ["b/0", "b/1", "a/0", "a/1"]),
        ("plain", ["plain"]),
        ("{3..1}", []),
    ],
)
def test_braces_are_written_out(pattern: str, names: list[str]) -> None:
    assert sorted(expand_braces(pattern)) == sorted(names)


def test_patterns_name_what_is_missing(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar", "notes"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in expand_pattern(f"{tmp_path}/*.tar")] == ["a.tar", "b.tar"]
    assert [path.name for path in expand_pattern(f"{tmp_path}/{{b,a}}.tar")] == ["b.tar", "a.tar"]
    with pytest.raises(InputError, match=r"no file at .*/c\.tar, which .*\{a,c\}"):
        list(expand_pattern(f"{tmp_path}/{{a,c}}.tar"))
    with pytest.raises(InputError, match=r"no file matches .*/\*\.jpg"):
        list(expand_pattern(f"{tmp_path}/*.jpg"))
    assert pattern_root(f"{tmp_path}/x{{a,b}}/*.tar") == tmp_path


def test_a_list_of_paths_is_relative_to_itself(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a b.jpg").write_bytes(b"x")
    text = f"\ufeffa b.jpg\r\n\n{tmp_path}/in/gone.jpg\n../é\x1b.jpg\nzero\0.jpg\n"
    (tmp_path / "in/list.txt").write_text(text, encoding="utf-8", newline="")
    found = list(list_paths(tmp_path / "in/list.txt"))
    assert [entry.path for entry in found] == ["a b.jpg", f"{tmp_path}/in/gone.jpg", "../é\\x1b.jpg", "zero\\x00.jpg"]
    assert os.fsdecode(found[0].file) == str(tmp_path / "in/a b.jpg")
    assert [entry.fault for entry in found] == [None, None, None, "no path: it holds a zero byte"]
    assert found[0].stamp > 0 == found[1].stamp


def test_a_list_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("é.jpg".encode("latin-1"))
    with pytest.raises(InputError, match=r"list\.txt is no list of paths: not UTF-8"):
        list(list_paths(tmp_path / "list.txt"))
