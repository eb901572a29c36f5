"""Getting at the original bytes of images that the listing names: plain files, members of tars, rows of tables."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa

from lvd_curate.inputs.file_names import NO_FILE, is_regular
from lvd_curate.inputs.table_images import TableImages

MAX_BYTES = 1 << 30  # of one image; a longer file would fill the memory and is no photograph


def read_bytes(rows: pl.DataFrame) -> Iterator[bytes | OSError]:
    """Yield the bytes of each row of a LISTING, in order; what cannot be read yields its OSError.

    Rows of one file should stand together and ascend: each part of it is then read once.
    """
    holder = Holder()
    try:
        for file, item, size, fault in rows.select("file", "item", "size", "fault").iter_rows():
            try:
                if fault is not None:
                    raise OSError(fault)
                yield holder.read_file(file) if item is None else holder.read_item(file, item, size)
            except OSError as error:
                yield error
            except pa.ArrowException as error:
                yield OSError(f"damaged table: {(str(error).splitlines() or [type(error).__name__])[0]}")
    finally:
        holder.close()


class Holder:
    """Keeps the file open in which the last item lay: the next one is likely to lie there too."""

    def __init__(self) -> None:
        self.file = b""
        self.archive: BinaryIO | None = None
        self.table: TableImages | None = None

    def read_file(self, file: bytes) -> bytes:
        """Read a plain image file; OSError for what is no regular file or too large."""
        if not is_regular(file):
            raise OSError(NO_FILE)
        with open(file, "rb") as stream:
            return read_some(stream, os.fstat(stream.fileno()).st_size)

    def read_item(self, file: bytes, item: int, size: int | None) -> bytes:
        """Read an image out of a tar (its first byte, its size) or a table (its row)."""
        if file != self.file:
            self.close()
            if not is_regular(file):
                raise OSError(NO_FILE)
            if size is None:
                self.table = TableImages(Path(os.fsdecode(file)))
            else:
                self.archive = open(file, "rb")  # noqa: SIM115
            self.file = file
        if self.archive is None or size is None:
            assert self.table is not None
            return self.table.read(item)
        self.archive.seek(item)
        data = read_some(self.archive, size)
        if len(data) < size:
            raise OSError("the archive ends inside this member")
        return data

    def close(self) -> None:
        """Let go of the open file."""
        if self.archive is not None:
            self.archive.close()
        self.file, self.archive, self.table = b"", None, None


def read_some(stream: BinaryIO, size: int) -> bytes:
    """Read `size` bytes unless that is more than an image may have."""
    if size > MAX_BYTES:
        raise OSError(f"{size:,} bytes are more than an image may have ({MAX_BYTES:,})")
    return stream.read(size)
