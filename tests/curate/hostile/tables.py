"""Tables, and folders as `save_to_disk` leaves them, made to do harm, and what is said of each."""

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tests.hostile_files import Malice


def one_column(kind: pa.DataType, values: list[Any], metadata: dict[bytes, bytes] | None = None) -> pa.Table:
    return pa.table([pa.array(values, kind)], schema=pa.schema([pa.field("image", kind, metadata=metadata)]))


def extension(name: bytes, data: bytes) -> pa.Table:
    tags = {b"ARROW:extension:name": name, b"ARROW:extension:metadata": data}
    return one_column(pa.binary(), [b"x"], tags)


def two_fields(*names: str) -> pa.Table:
    parts = [pa.array([b"x"]) for _ in names]
    return pa.table({"image": pa.StructArray.from_arrays(parts, list(names))})


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ELSEWHERE = [{"bytes": None, "path": path} for path in ("/etc/passwd", "http://127.0.0.1:9/a.jpg", "\0", "a.jpg")]
NO_COLUMN = "no column of image bytes"
TABLES: dict[str, tuple[pa.Table, str]] = {
    "pickled type": (extension(b"arrow.py_extension_type", pickle.dumps(Malice(Path("unpickled")))), "not an image"),
    "type of lies": (extension(b"arrow.fixed_shape_tensor", b"{]"), "is no readable"),
    "opaque type": (extension(b"arrow.opaque", b'{"type_name":"x","vendor_name":"y"}'), NO_COLUMN),
    "pickled notes": (
        pa.table(
            [pa.array([b"x"])],
            schema=pa.schema([("image", pa.binary())], metadata={b"pandas": pickle.dumps(Malice(Path("unpickled")))}),
        ),
        "not an image",
    ),
    "deep notes": (
        pa.table(
            [pa.array([b"x"])], schema=pa.schema([("image", pa.binary())], metadata={b"huggingface": b"[" * 10**6})
        ),
        "not an image",
    ),
    "paths elsewhere": (pa.table({"image": pa.array(ELSEWHERE, STRUCT)}), "unreadable: the row holds no image bytes"),
    "a name of megabytes": (
        pa.table({"image": pa.array([{"bytes": b"x", "path": "n" * 10**6 + ".jpg"}], STRUCT)}),
        "not an image",
    ),
    "one name twice": (
        pa.table([pa.array([b"x"]), pa.array([b"y"])], names=["image", "image"]),
        "several columns are named image",
    ),
    "one field twice": (two_fields("bytes", "bytes"), NO_COLUMN),
    "bytes in bytes": (pa.table({"image": pa.array([{"bytes": {"bytes": b"x"}}])}), NO_COLUMN),
    "a list": (one_column(pa.list_(pa.binary()), [[b"x"]]), NO_COLUMN),
    "a number": (one_column(pa.int64(), [1]), NO_COLUMN),
    "a text": (one_column(pa.string(), ["/etc/passwd"]), NO_COLUMN),
    "nothing but rows": (one_column(pa.binary(), [None] * 3_000_000), "3,000,000 rows in .* bytes"),
    "controls in a name": (pa.table({"\x1b[2J\n": [1]}), r"it has \\x1b\[2J\\n"),
    "dots in a name": (pa.table({"image.bytes": [b"x"], "image": [1]}), "not an image"),
}
STATES = {
    "climbs": ('{"_data_files": [{"filename": "../../x.arrow"}]}', "which is no file in its folder"),
    "root": ('{"_data_files": [{"filename": "/etc/passwd"}]}', "which is no file in its folder"),
    "number": ('{"_data_files": [{"filename": 3}]}', "which is no file in its folder"),
    "list": ('{"_data_files": [{"filename": ["x"]}]}', "which is no file in its folder"),
    "control": ('{"_data_files": [{"filename": "\\u001b[2J"}]}', "is missing, which"),
    "half a letter": ('{"_data_files": [{"filename": "\\ud800"}]}', "is missing, which"),
    "deep": ("[" * 100_000, "not an image"),
    "endless": ("", "not an image"),  # a pipe
}


def write_stream(table: pa.Table, file: Path) -> None:
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def write_repeated(file: Path) -> None:
    """Write 70 rows of one value of 30 MB: 1 kB that unfolds to gigabytes."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 70, pa.int32()), pa.array([bytes(30 << 20)]))
    schema = pa.schema([("image", column.type)])
    with pq.ParquetWriter(
        file, schema, compression="zstd", dictionary_pagesize_limit=1 << 30, store_schema=False
    ) as out:
        out.write_table(pa.table({"image": column}))
    assert file.stat().st_size < 2000
