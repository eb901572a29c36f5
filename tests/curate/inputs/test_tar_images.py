import io
import os
import tarfile
from pathlib import Path

import pytest

from lvd_curate.columns import Entry
from lvd_curate.errors import InputError
from lvd_curate.inputs.tar_images import list_tar

EXTENSIONS = frozenset((".jpg", ".png"))


def write_tar(file: Path, members: list[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(file, "w", format=format) as archive:
        for name, data in members:
            add(archive, name, data)
    return file


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    archive.addfile(info, io.BytesIO(data))


def list_entries(file: Path) -> list[Entry]:
    return list(list_tar(os.fsencode(file), file.name, EXTENSIONS))


def read_entry(entry: Entry) -> bytes:
    assert entry.item is not None
    assert entry.size is not None
    return Path(os.fsdecode(entry.file)).read_bytes()[entry.item : entry.item + entry.size]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_bytes_lie_where_the_listing_says(tmp_path: Path, format: int) -> None:
    long = "d" * 60 + "/" + "n" * 70 + ".jpg"
    file = write_tar(tmp_path / "x.tar", [("a.jpg", b"one"), (long, b"two" * 1000), ("é.PNG", b"")], format)
    found = list_entries(file)
    assert [entry.path for entry in found] == ["x.tar#a.jpg", f"x.tar#{long}", "x.tar#é.PNG"]
    assert [read_entry(entry) for entry in found] == [b"one", b"two" * 1000, b""]


def test_beside_its_image_a_sample_has_other_members(tmp_path: Path) -> None:
    names = ["s/1.jpg", "s/1.mask.png", "s/1.json", "2.cls", "2.seg.png", "2.depth.png", "notes.txt", "3.png", "3.jpg"]
    file = write_tar(tmp_path / "x.tar", [(name, b"") for name in names])
    images = ["s/1.jpg", "2.seg.png", "2.depth.png", "3.png", "3.jpg"]
    assert [entry.path for entry in list_entries(file)] == [f"x.tar#{name}" for name in images]


def test_a_name_that_comes_again_is_told_apart(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "x.tar", [("a.jpg", b"1"), ("a.jpg", b"2"), ("b.jpg", b"3"), ("a.jpg", b"4")])
    found = {entry.path: read_entry(entry) for entry in list_entries(file)}
    assert found == {"x.tar#a.jpg": b"1", "x.tar#a.jpg (2)": b"2", "x.tar#b.jpg": b"3", "x.tar#a.jpg (3)": b"4"}


def test_names_that_look_alike_are_told_apart(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "x.tar", [("\x1b.jpg", b"1"), ("\\x1b.jpg", b"2")])
    assert {e.path: read_entry(e) for e in list_entries(file)} == {
        "x.tar#\\x1b.jpg": b"1",
        "x.tar#\\x1b.jpg (2)": b"2",
    }


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_name_as_long_as_a_path_may_be_is_no_fault(tmp_path: Path, format: int) -> None:
    name = "d/" * 2000 + "n" * 90 + ".jpg"
    (entry,) = list_entries(write_tar(tmp_path / "x.tar", [(name, b"data")], format))
    assert (entry.path, entry.fault, read_entry(entry)) == (f"x.tar#{name}", None, b"data")


def test_what_is_no_plain_member_is_a_row_with_a_fault(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add(archive, "../up.jpg", b"x")
        add(archive, "/etc/root.jpg", b"x")
        add(archive, "soft.jpg", kind=tarfile.SYMTYPE, link="/etc/passwd")
        add(archive, "hard.jpg", kind=tarfile.LNKTYPE, link="fine.jpg")
        add(archive, "tty.jpg", kind=tarfile.CHRTYPE)
        add(archive, "folder.jpg", kind=tarfile.DIRTYPE)
        add(archive, "fine.jpg", b"x")
    climbs, link, special = "its name climbs out of the archive", "a link inside an archive", "no regular file inside"
    faults = [entry.fault for entry in list_entries(tmp_path / "x.tar")]
    assert faults == [climbs, climbs, link, link, f"{special} an archive", None]
    assert sorted(os.listdir(tmp_path)) == ["x.tar"]


@pytest.mark.parametrize(("cut", "whole", "rows"), [(700, 0, 2), (1200, 1, 2), (1600, 1, 3), (2560, 2, 4)])
def test_a_cut_archive_is_listed_up_to_the_cut(tmp_path: Path, cut: int, whole: int, rows: int) -> None:
    data = write_tar(tmp_path / "x.tar", [(f"{n}.jpg", b"x" * 300) for n in range(5)]).read_bytes()
    (tmp_path / "x.tar").write_bytes(data[:cut])
    faults = [entry.fault for entry in list_entries(tmp_path / "x.tar")]
    assert faults[:whole] == [None] * whole
    assert faults[whole:-1] == ["the archive ends inside this member"] * (rows - whole - 1)
    assert str(faults[-1]).startswith("the archive is damaged from byte")


def test_damage_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "x.tar", [(f"{n}.jpg", b"x") for n in range(5)])
    data = bytearray(file.read_bytes())
    data[2048 : 2048 + 512] = b"\xff" * 512
    file.write_bytes(data)
    found = list_entries(file)
    assert [entry.fault for entry in found] == [None, None, "the archive is damaged from byte 2048 on"]


def test_an_archive_without_its_last_zeros_is_whole(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "x.tar", [("a.jpg", b"x"), ("b.jpg", b"y")])
    file.write_bytes(file.read_bytes()[:2048])
    assert [entry.fault for entry in list_entries(file)] == [None, None]


@pytest.mark.parametrize("data", [b"", b"no archive" * 100, b"\x1f\x8b" + b"\0" * 600])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.tar is no readable tar archive"):
        list_entries(tmp_path / "x.tar")
