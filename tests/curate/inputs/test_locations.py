import io
import os
import tarfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lvd_curate.columns import LISTING
from lvd_curate.inputs import locations
from lvd_curate.inputs.locations import read_bytes

Place = tuple[Path, int | None, int | None, str | None]


def rows_of(*places: Place) -> pl.DataFrame:
    rows = [(os.fsencode(path), *rest) for path, *rest in places]
    return pl.DataFrame(rows, schema={name: LISTING[name] for name in ("file", "item", "size", "fault")}, orient="row")


def plain(path: Path) -> Place:
    return path, None, None, None


def row(path: Path, item: int) -> Place:
    return path, item, None, None


def test_all_kinds_come_in_the_order_asked_for(tmp_path: Path) -> None:
    table, picture, archive = tmp_path / "x.parquet", tmp_path / "y.jpg", tmp_path / "z.tar"
    picture.write_bytes(b"plain")
    pq.write_table(pa.table({"image": pa.array([b"row %d" % n for n in range(10)])}), table, row_group_size=3)
    with tarfile.open(archive, "w") as members:
        info = tarfile.TarInfo("a.jpg")
        info.size = 6
        members.addfile(info, io.BytesIO(b"member"))
    asked = rows_of(row(table, 1), row(table, 9), plain(picture), (archive, 512, 6, None), row(table, 0))
    assert list(read_bytes(asked)) == [b"row 1", b"row 9", b"plain", b"member", b"row 0"]


def test_what_cannot_be_read_is_an_error_beside_the_others(tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"x")
    places = plain(tmp_path / "gone"), row(tmp_path / "gone.parquet", 0), (tmp_path / "gone.tar", 512, 3, None)
    *missing, here = read_bytes(rows_of(*places, plain(tmp_path / "here")))
    assert all(isinstance(error, FileNotFoundError) for error in missing)
    assert len(missing) == 3
    assert here == b"x"


@pytest.mark.parametrize("place", [(None, None), (0, None), (512, 3)])
def test_a_pipe_is_not_waited_for(tmp_path: Path, place: tuple[int | None, int | None]) -> None:
    os.mkfifo(tmp_path / "x.parquet")
    (found,) = read_bytes(rows_of((tmp_path / "x.parquet", *place, None)))
    assert isinstance(found, OSError)
    assert str(found) == "no regular file"


def test_a_fault_of_the_listing_is_the_error(tmp_path: Path) -> None:
    (found,) = read_bytes(rows_of((tmp_path / "x.tar", 0, 9, "a link inside an archive")))
    assert str(found) == "a link inside an archive"


def test_a_table_or_tar_that_shrank_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    (tmp_path / "x.tar").write_bytes(b"x" * 100)
    table, archive = read_bytes(rows_of(row(tmp_path / "x.parquet", 0), (tmp_path / "x.tar", 90, 20, None)))
    assert isinstance(table, OSError)
    assert "damaged table: " in str(table)
    assert isinstance(archive, OSError)
    assert str(archive) == "the archive ends inside this member"


def test_a_row_behind_the_end_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": pa.array([b"a"])}), tmp_path / "x.parquet")
    found = list(read_bytes(rows_of(row(tmp_path / "x.parquet", 1), row(tmp_path / "x.parquet", 0))))
    assert isinstance(found[0], OSError)
    assert found[1] == b"a"


def test_a_file_too_large_for_an_image_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "MAX_BYTES", 1000)
    for size in (1000, 1001):
        with open(tmp_path / f"{size}.jpg", "wb") as file:
            file.truncate(size)
    small, large = read_bytes(rows_of(plain(tmp_path / "1000.jpg"), plain(tmp_path / "1001.jpg")))
    assert small == bytes(1000)
    assert str(large) == "1,001 bytes are more than an image may have (1,000)"
