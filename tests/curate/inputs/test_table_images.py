import os
import random
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lvd_curate.errors import InputError
from lvd_curate.inputs import table_images
from lvd_curate.inputs.table_images import NoImageColumn, TableImages, find_image_column, list_table, saved_files

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FORMATS = ("parquet", "stream.arrow", "file.arrow", "zstd.arrow")


def write_images(folder: Path, format: str, count: int, piece: int) -> Path:
    """Write `count` rows of an image struct, `piece` rows in a row group or record batch."""
    values = [{"bytes": b"row %d" % n, "path": f"some/folder/{n}.jpg" if n % 2 else None} for n in range(count)]
    table = pa.table({"label": range(count), "image": pa.array(values, IMAGE)})
    file = folder / f"x.{format}"
    if format == "parquet":
        pq.write_table(table, file, row_group_size=piece)
        return file
    options = pa.ipc.IpcWriteOptions(compression="zstd" if format == "zstd.arrow" else None)
    new = pa.ipc.new_stream if format == "stream.arrow" else pa.ipc.new_file
    with new(file, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=piece)
    return file


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("count", "piece"), [(10, 3), (300, 130), (1, 1)])
def test_any_order_gives_the_same_bytes(tmp_path: Path, format: str, count: int, piece: int) -> None:
    images = TableImages(write_images(tmp_path, format, count, piece))
    order = list(range(count)) + random.Random(0).sample(range(count), count)
    assert [images.read(row) for row in order] == [b"row %d" % row for row in order]


@pytest.mark.parametrize("format", FORMATS)
def test_rows_are_listed_with_the_names_they_know(tmp_path: Path, format: str) -> None:
    found = list(list_table(os.fsencode(write_images(tmp_path, format, 5, 2)), "x"))
    assert [entry.path for entry in found] == ["x#0", "x#1/1.jpg", "x#2", "x#3/3.jpg", "x#4"]
    assert [entry.item for entry in found] == list(range(5))


def test_names_in_a_table_are_not_trusted(tmp_path: Path) -> None:
    values = [{"bytes": b"", "path": path} for path in ("../../up.jpg", "C:\\x\\y.png", "a\nb", "folder/")]
    pq.write_table(pa.table({"image": pa.array(values, IMAGE)}), tmp_path / "x.parquet")
    found = list(list_table(os.fsencode(tmp_path / "x.parquet"), "x"))
    assert [entry.path for entry in found] == ["x#0/up.jpg", "x#1/y.png", "x#2/a\\nb", "x#3"]


def test_a_name_that_is_no_text_is_shown_escaped(tmp_path: Path) -> None:
    names = pa.StringArray.from_buffers(1, pa.array([0, 6], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff.jpg"[:6]))
    image = pa.StructArray.from_arrays([pa.array([b"data"]), names], ["bytes", "path"])
    pq.write_table(pa.table({"image": image}), tmp_path / "x.parquet")
    (entry,) = list_table(os.fsencode(tmp_path / "x.parquet"), "x")
    assert entry.path == "x#0/a\\xff.jpg"
    assert TableImages(tmp_path / "x.parquet").read(0) == b"data"


def test_no_more_is_decoded_than_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_images(tmp_path, "parquet", 1000, 500)
    asked: list[tuple[int, int]] = []
    read_from = table_images.ParquetTable.read_from

    def count(self: table_images.ParquetTable, start: int, column: str, field: str | None = None) -> object:
        for values in read_from(self, start, column, field):
            asked.append((start, len(values)))
            yield values

    monkeypatch.setattr(table_images.ParquetTable, "read_from", count)
    images = TableImages(file)
    assert [images.read(row) for row in (0, 1, 65, 700)] == [b"row 0", b"row 1", b"row 65", b"row 700"]
    assert asked == [(0, 64), (0, 64), (500, 64), (500, 64), (500, 64), (500, 64)]


def test_a_null_is_no_image(tmp_path: Path) -> None:
    values = [{"bytes": b"a", "path": None}, None, {"bytes": None, "path": "/etc/passwd"}]
    pq.write_table(pa.table({"image": pa.array(values, IMAGE)}), tmp_path / "x.parquet")
    images = TableImages(tmp_path / "x.parquet")
    assert images.read(0) == b"a"
    for row in (1, 2):
        with pytest.raises(OSError, match="holds no image bytes"):
            images.read(row)


def test_what_polars_writes_can_be_read(tmp_path: Path) -> None:
    frame = pl.DataFrame({"picture": [b"a" * 20, b"b"]})
    frame.write_ipc(tmp_path / "x.arrow")
    frame.write_parquet(tmp_path / "x.parquet")
    for name in ("x.arrow", "x.parquet"):
        assert TableImages(tmp_path / name).read(0) == b"a" * 20


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_cut_table_is_refused_by_name(tmp_path: Path, format: str, share: float) -> None:
    file = write_images(tmp_path, format, 200, 50)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"x\..* is no readable (Parquet|Arrow) file: ."):
        list(list_table(os.fsencode(file), "x"))


def test_damage_inside_takes_the_rows_behind_it_only(tmp_path: Path) -> None:
    noise = random.Random(0)
    values = [noise.randbytes(20_000) for _ in range(300)]
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": values}), file, row_group_size=150, compression="none", use_dictionary=False)
    data = bytearray(file.read_bytes())
    place = data.index(values[100]) - 4
    data[place : place + 4] = b"\xff" * 4  # this value claims to be longer than its page
    file.write_bytes(data)
    images, reasons = TableImages(file), []
    for row in range(300):
        try:
            assert images.read(row) == values[row]
        except OSError as error:
            reasons.append(str(error))
    assert 1 <= len(reasons) <= 150 - 64
    assert all(reason.startswith("damaged table: ") for reason in reasons)
    assert images.read(0) == values[0]


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


def test_an_unclear_table_is_refused() -> None:
    with pytest.raises(NoImageColumn, match="no column of image bytes; it has label, name"):
        find_image_column(Path("x"), pa.schema({"label": pa.int64(), "name": pa.string()}))
    with pytest.raises(InputError, match=r"several columns of bytes \(left, right\), none named image"):
        find_image_column(Path("x"), pa.schema({"left": IMAGE, "right": IMAGE}))


def test_a_saved_dataset_names_its_files(tmp_path: Path) -> None:
    assert saved_files(tmp_path) is None
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "data-0.arrow"}]}')
    with pytest.raises(InputError, match=r"data-0\.arrow is missing"):
        saved_files(tmp_path)
    (tmp_path / "data-0.arrow").write_bytes(b"")
    assert saved_files(tmp_path) == {"data-0.arrow"}
    for other in ("[]", "no json", '{"_data_files": 3}'):
        (tmp_path / "state.json").write_text(other)
        assert saved_files(tmp_path) is None
