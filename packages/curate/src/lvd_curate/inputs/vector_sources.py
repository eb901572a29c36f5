"""Matrices that users bring: a .npy file, or a column of lists or bytes in a table. Nothing is unpickled."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from lvd_curate.errors import InputError
from lvd_curate.inputs.table_images import Table, name_damage


class VectorSource(Protocol):
    """Vectors on disk by row number."""

    num_rows: int
    dim: int

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read rows that ascend (int64 [N]) as float32 [N, D]; NaN where a row is null."""
        ...


class NpyVectors:
    """A .npy file, mapped."""

    def __init__(self, file: Path) -> None:
        try:
            self.matrix = np.lib.format.open_memmap(file, mode="r")
        except OSError:
            raise
        except Exception as error:  # a damaged header makes numpy raise nearly anything
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{file} is no readable .npy matrix: {first}") from error
        if self.matrix.ndim != 2 or self.matrix.dtype.kind not in "fiu" or not self.matrix.size:
            shape = " x ".join(map(str, self.matrix.shape))
            raise InputError(f"{file} holds {shape} values of {self.matrix.dtype}; give a matrix of numbers, N x D")
        self.num_rows, self.dim = self.matrix.shape

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read rows that ascend (int64 [N]) as float32 [N, D]."""
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and no finite vector
            taken: np.ndarray = self.matrix[rows].astype(np.float32)
        return taken


class TableVectors:
    """A column of a Parquet or Arrow file: lists of numbers, or bytes that are little-endian float16."""

    def __init__(self, file: Path, table: Table, column: str) -> None:
        self.file, self.table, self.column = file, table, column
        self.num_rows = table.num_rows
        kind = table.schema.field(column).type
        if not is_vector(kind):
            raise InputError(f"{file}: column {column} is {kind}; give lists of numbers, or bytes of float16")
        self.dim = next((len(read_numbers(value)) for value in self.scan(0) if value.is_valid), 0)
        if not self.dim:
            raise InputError(f"{file}: column {column} holds no vector")

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read rows that ascend (int64 [N]) as float32 [N, D]; NaN where a row is null.

        Raises InputError for a vector of another length and for damage.
        """
        taken = np.full((len(rows), self.dim), np.nan, dtype=np.float32)
        done = 0
        while done < len(rows):
            start = self.table.find_start(int(rows[done]))
            end = start
            for values in self.read_from(start):
                start, end = end, end + len(values)
                while done < len(rows) and rows[done] < end:
                    taken[done] = self.decode(values[int(rows[done]) - start], int(rows[done]))
                    done += 1
                if done == len(rows) or self.table.find_start(int(rows[done])) > end:
                    break
            else:
                raise InputError(f"{self.file} ends before its row {rows[done]}; write it again")
        return taken

    def decode(self, value: Any, row: int) -> np.ndarray:
        """Turn one value into numbers [D]."""
        if not value.is_valid:
            return np.full(self.dim, np.nan, dtype=np.float32)
        numbers = read_numbers(value)
        if len(numbers) != self.dim:
            raise InputError(f"{self.file}: the vector of row {row} has {len(numbers)} numbers, others {self.dim}")
        return numbers

    def scan(self, start: int) -> Iterator[Any]:
        """Yield the values one by one."""
        for values in self.read_from(start):
            yield from values

    def read_from(self, start: int) -> Iterator[pa.Array]:
        """Yield the column's values from the start of a piece on; InputError where the file is damaged."""
        with name_damage(self.file):
            yield from self.table.read_from(start, self.column)


def is_vector(kind: pa.DataType) -> bool:
    """Tell whether values of this Arrow type are lists of numbers or bytes."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def read_numbers(value: Any) -> np.ndarray:
    """Return the numbers of a valid Arrow scalar, float32 [D]; a null among them is NaN."""
    if hasattr(value, "values"):
        numbers = value.values.to_numpy(zero_copy_only=False)
    else:
        data = value.as_py()
        numbers = np.frombuffer(data[: len(data) // 2 * 2], dtype="<f2")
    with np.errstate(over="ignore"):
        narrowed: np.ndarray = numbers.astype(np.float32)
    return narrowed
