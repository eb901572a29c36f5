"""Images in the rows of Parquet and Arrow files, read a few at a time, however large the file or its row groups."""

import json
import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lvd_curate.columns import Entry
from lvd_curate.errors import InputError
from lvd_curate.inputs.file_names import is_regular, show_name, stamp_file

BATCH = 64  # rows decoded at once: what a reader of full-size photographs can always hold
# Bytes of them if each is as large as all of its row group, as one value repeated is; decoding takes thrice that.
BATCH_BYTES = 1 << 28
MIN_BYTES = 1 << 16  # of a table: below it any number of rows up to this one is soon listed
MAX_NAME = 255  # letters of an original name, what a file may have on this system


class NoImageColumn(InputError):
    """A table of something else."""


class Table(Protocol):
    """A file of rows that can be read from the middle on."""

    schema: pa.Schema
    num_rows: int

    def find_start(self, row: int) -> int:
        """Return the row at or before `row` from which reading can start."""
        ...

    def read_from(self, start: int, column: str, field: str | None = None) -> Iterator[pa.Array]:
        """Yield the values of a column, or of one field of its structs, from a start on."""
        ...


class ParquetTable:
    """A Parquet file; reading starts at a row group."""

    def __init__(self, path: Path) -> None:
        self.file = pq.ParquetFile(path)
        self.schema: pa.Schema = self.file.schema_arrow
        self.num_rows: int = check_rows(self.file.metadata.num_rows, path)
        groups = range(self.file.metadata.num_row_groups)
        self.starts = list(accumulate((self.file.metadata.row_group(group).num_rows for group in groups), initial=0))

    def find_start(self, row: int) -> int:
        """Return the first row of the row group that holds `row`."""
        return self.starts[bisect_right(self.starts, row) - 1]

    def read_from(self, start: int, column: str, field: str | None = None) -> Iterator[pa.Array]:
        """Yield the values of a column from the start of a row group on."""
        leaf = f"{column}.{field}" if field else column
        groups = list(range(bisect_right(self.starts, start) - 1, len(self.starts) - 1))
        metadata = self.file.metadata  # no further down: of columns that lie, pyarrow's destroys the process
        largest = max((metadata.row_group(group).total_byte_size for group in groups), default=0)
        rows = min(BATCH, max(1, BATCH_BYTES // max(1, largest)))
        for batch in self.file.iter_batches(rows, row_groups=groups, columns=[leaf], use_threads=False):
            values = batch.column(column)
            yield pc.struct_field(values, field) if field else values


class ArrowTable:
    """An Arrow file or stream (what `datasets` writes), mapped: what is skipped is not read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        batches = self.open()
        self.schema: pa.Schema = next(batches)
        self.num_rows = check_rows(sum(batch.num_rows for batch in batches), path)

    def open(self) -> Iterator[pa.Schema | pa.RecordBatch]:
        """Yield the schema, then the record batches."""
        with pa.memory_map(str(self.path)) as source:
            if source.read(6) == b"ARROW1":
                reader = pa.ipc.open_file(source)
                yield reader.schema
                yield from map(reader.get_batch, range(reader.num_record_batches))
            else:
                source.seek(0)
                stream = pa.ipc.open_stream(source)
                yield stream.schema
                yield from stream

    def find_start(self, row: int) -> int:
        """Return 0: batches are found by going through them."""
        return 0

    def read_from(self, start: int, column: str, field: str | None = None) -> Iterator[pa.Array]:
        """Yield the values of a column from the first row on."""
        batches = self.open()
        next(batches)
        for batch in batches:
            values = batch.column(column)
            values.validate(full=True)  # the file may lie about where its values end
            yield pc.struct_field(values, field) if field else values


def check_rows(rows: int, path: Path) -> int:
    """Return a table's number of rows; ArrowInvalid for one that could not be listed in the time the world has left."""
    size = path.stat().st_size
    if not 0 <= rows <= max(size, MIN_BYTES):
        raise pa.ArrowInvalid(f"{rows:,} rows in {size:,} bytes, more than hold an image each")
    return rows


def open_table(path: Path) -> Table:
    """Open a file by its suffix; pyarrow's errors and OSError when it is damaged or gone."""
    return ArrowTable(path) if path.suffix.lower() == ".arrow" else ParquetTable(path)


def find_image_column(path: Path, schema: pa.Schema) -> str:
    """Name the column that holds image bytes: a struct with a `bytes` field or plain binary.

    `image` and `img` win over others; any other choice must be the only one. Raises NoImageColumn where there is none
    and InputError where it is unclear.
    """
    found = [field.name for field in schema if holds_bytes(field.type)]
    twice = sorted(name for name in set(found) if schema.names.count(name) > 1)
    if twice:
        raise InputError(f"{path}: several columns are named {show_name(twice[0])}; give each a name of its own")
    for name in ("image", "img"):
        if name in found:
            return name
    if len(found) == 1:
        return found[0]
    has = f"it has {', '.join(map(show_name, schema.names))}"
    if found:
        raise InputError(f"{path}: several columns of bytes ({', '.join(found)}), none named image; {has}")
    raise NoImageColumn(f"{path}: no column of image bytes; {has}")


def holds_bytes(kind: pa.DataType) -> bool:
    """Tell whether values of this Arrow type are bytes, or a Hugging Face `Image` struct around them."""
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")  # none where several go by that name
        return place >= 0 and is_bytes(kind.field(place).type)
    return is_bytes(kind)


def is_bytes(kind: pa.DataType) -> bool:
    """Tell whether values of this Arrow type are bytes."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def list_table(file: bytes, name: str) -> Iterator[Entry]:
    """List a table's rows as `NAME#ROW`, with `/ORIGINAL_NAME` where the rows know it.

    Raises InputError for a damaged table, and what `find_image_column` raises.
    """
    path, stamp = Path(os.fsdecode(file)), stamp_file(file)
    with name_damage(path):
        table = open_table(path)
        column = find_image_column(path, table.schema)
        for row, original in enumerate(read_names(table, column)):
            yield Entry(f"{name}#{row}" + (f"/{original}" if original else ""), file, stamp, row)


@contextmanager
def name_damage(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into an InputError that names it; errors of the place stay."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        first = show_name((str(error).splitlines() or [type(error).__name__])[0])
        raise InputError(f"{path} is no readable {path.suffix[1:].capitalize()} file: {first}") from error


def read_names(table: Table, column: str) -> Iterator[str]:
    """Yield the original file name of every row without its folders; empty where the table does not say."""
    kind = table.schema.field(column).type
    place = kind.get_field_index("path") if pa.types.is_struct(kind) else -1
    if place < 0 or not is_text(kind.field(place).type):
        yield from ("" for _ in range(table.num_rows))
        return
    for values in table.read_from(0, column, "path"):
        for name in values.cast(pa.large_binary()).to_pylist():  # as bytes: what calls itself text need not be UTF-8
            yield show_name((name or b"").replace(b"\\", b"/").rpartition(b"/")[2])[-MAX_NAME:]


def is_text(kind: pa.DataType) -> bool:
    """Tell whether values of this Arrow type are text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def saved_files(folder: Path) -> set[str] | None:
    """Name the Arrow files of a folder that `datasets.save_to_disk` wrote (others there are caches); None elsewhere.

    Raises InputError when one of them is missing, or no name of a file in that folder.
    """
    state = folder / "state.json"
    try:
        said = json.loads(state.read_bytes()) if is_regular(os.fsencode(state)) else {}
        names = [entry["filename"] for entry in said["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    for name in names:
        if not isinstance(name, str) or os.path.basename(name) != name:
            raise InputError(f"{state} names {name!r}, which is no file in its folder; save the dataset again")
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing, which {state} names")
    return set(names)


class TableImages:
    """Images of one table by row number; rows asked for in ascending order are read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = open_table(path)
        self.column = find_image_column(path, self.table.schema)
        self.batches: Iterator[pa.Array] = iter(())
        self.values = pa.nulls(0)
        self.start = 0
        self.damage: dict[int, tuple[int, str]] = {}  # start of reading -> first row not to be had from it, why

    def read(self, item: int) -> bytes:
        """Return the bytes of one row; OSError when it has none or lies behind damage."""
        self.seek(item)
        value = self.values[item - self.start]
        data = value["bytes"] if value.is_valid and pa.types.is_struct(value.type) else value
        if not data.is_valid:
            raise OSError("the row holds no image bytes")
        return bytes(data.as_buffer())

    def seek(self, item: int) -> None:
        """Make `values`, which begin at row `start`, hold a row."""
        end = self.start + len(self.values)
        if self.start <= item < end:
            return
        begin = self.table.find_start(item)
        lost, reason = self.damage.get(begin, (item + 1, ""))
        if item >= lost:
            raise OSError(reason)
        if not len(self.values) or item < self.start or begin > end:
            self.batches, self.start, self.values = self.table.read_from(begin, self.column), begin, pa.nulls(0)
        while item >= self.start + len(self.values):
            self.start, self.values = self.start + len(self.values), pa.nulls(0)
            try:
                self.values = next(self.batches)
            except (StopIteration, pa.ArrowException, OSError) as error:
                what = (str(error).splitlines() or ["it ends before this row"])[0]
                self.damage[begin] = self.start, f"damaged table: {what}"
                raise OSError(self.damage[begin][1]) from error
