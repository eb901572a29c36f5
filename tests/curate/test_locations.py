import os
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lvd_curate.errors import InputError
from lvd_curate.locations import find_image_column, read_bytes

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def rows_of(*places: tuple[Path, int | None]) -> pl.DataFrame:
    files = [os.fsencode(path) for path, _ in places]
    return pl.DataFrame(
        {"file": files, "item": [item for _, item in places]}, schema={"file": pl.Binary, "item": pl.Int64}
    )


def test_files_and_rows_come_in_the_order_asked_for(tmp_path: Path) -> None:
    parquet, plain = tmp_path / "x.parquet", tmp_path / "y.jpg"
    plain.write_bytes(b"plain")
    values = [{"bytes": f"row {n}".encode(), "path": None} for n in range(10)]
    pq.write_table(pa.table({"label": range(10), "image": pa.array(values, IMAGE)}), parquet, row_group_size=3)
    asked = rows_of((parquet, 1), (parquet, 9), (plain, None), (parquet, 0), (parquet, 4))
    assert list(read_bytes(asked)) == [b"row 1", b"row 9", b"plain", b"row 0", b"row 4"]


def test_what_cannot_be_read_is_an_error_beside_the_others(tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"x")
    missing, here = read_bytes(rows_of((tmp_path / "gone", None), (tmp_path / "here", None)))
    assert isinstance(missing, FileNotFoundError)
    assert here == b"x"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    (found,) = read_bytes(rows_of((tmp_path / "x.jpg", None)))
    assert isinstance(found, OSError)
    assert str(found) == "no regular file"


def test_plain_binary_and_missing_values(tmp_path: Path) -> None:
    pq.write_table(pa.table({"picture": pa.array([b"a", None], pa.binary())}), tmp_path / "x.parquet")
    assert list(read_bytes(rows_of((tmp_path / "x.parquet", 0), (tmp_path / "x.parquet", 1)))) == [b"a", b""]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"mask": IMAGE, "image": IMAGE}, "image"),
        ({"img": pa.large_binary(), "depth": IMAGE}, "img"),
        ({"label": pa.int64(), "photo": IMAGE}, "photo"),
    ],
)
def test_the_image_column_is_found_by_type_then_by_name(columns: dict[str, pa.DataType], found: str) -> None:
    assert find_image_column(Path("x"), pa.schema(columns.items())) == found


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": pa.int64(), "name": pa.string()}, "no column of image bytes; it has label, name"),
        ({"left": IMAGE, "right": IMAGE}, r"several columns of bytes \(left, right\), none named image"),
    ],
)
def test_an_unclear_table_is_refused(columns: dict[str, pa.DataType], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_image_column(Path("x"), pa.schema(columns.items()))
