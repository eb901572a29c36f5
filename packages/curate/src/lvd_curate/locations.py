"""Getting at the original bytes of images that the listing names: plain files and rows of Parquet files."""

import os
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from stat import S_ISREG

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lvd_curate.errors import InputError


def read_bytes(rows: pl.DataFrame) -> Iterator[bytes | OSError]:
    """Yield the bytes of each row of a LISTING, in order; an unreadable file yields its OSError.

    Rows of one Parquet file should stand together and ascend: each row group is then read once.
    """
    reader: ParquetImages | None = None
    for file, item in zip(rows["file"], rows["item"], strict=True):
        path = Path(os.fsdecode(file))
        try:
            if item is None:
                if not S_ISREG(path.stat().st_mode):  # a pipe would be waited for without end
                    raise OSError("no regular file")
                yield path.read_bytes()
                continue
            if reader is None or reader.path != path:
                reader = ParquetImages(path)
            yield reader.read(item)
        except OSError as error:
            yield error


def find_image_column(path: Path, schema: pa.Schema) -> str:
    """Name the column that holds image bytes: a struct with a `bytes` field or plain binary.

    `image` and `img` win over others; any other choice must be the only one. Raises InputError otherwise.
    """
    found = [field.name for field in schema if holds_bytes(field.type)]
    for name in ("image", "img"):
        if name in found:
            return name
    if len(found) == 1:
        return found[0]
    what = f"several columns of bytes ({', '.join(found)}), none named image" if found else "no column of image bytes"
    raise InputError(f"{path}: {what}; it has {', '.join(schema.names)}")


def holds_bytes(kind: pa.DataType) -> bool:
    """Tell whether values of this Arrow type are bytes, or a Hugging Face `Image` struct around them."""
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and holds_bytes(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


class ParquetImages:
    """Images of one Parquet file by row number, one row group in memory at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = pq.ParquetFile(path)
        self.column = find_image_column(path, self.file.schema_arrow)
        groups = range(self.file.metadata.num_row_groups)
        self.starts = list(accumulate((self.file.metadata.row_group(g).num_rows for g in groups), initial=0))
        self.group = -1
        self.values: list[bytes | None] = []

    def read(self, item: int) -> bytes:
        """Return the bytes of one row; a row without any gives no bytes."""
        group = bisect_right(self.starts, item) - 1
        if group != self.group:
            column = self.file.read_row_group(group, columns=[self.column]).column(0)
            values = column.to_pylist()
            self.values = [v and v["bytes"] for v in values] if pa.types.is_struct(column.type) else values
            self.group = group
        return self.values[item - self.starts[group]] or b""
