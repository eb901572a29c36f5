"""Embeddings on disk: one float16 matrix in a .npy file, of which a table's rows are read when they are needed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

BLOCK = 16384  # rows read at once: no second copy of many vectors is held


@dataclass(frozen=True)
class Vectors:
    """Some rows of a matrix on disk. Cheap to slice and to send to another process: no vector is held in memory."""

    file: Path  # .npy, float16 [M, D]
    rows: np.ndarray  # int64 [N], rows of the matrix in the order wanted

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | np.ndarray) -> "Vectors":
        """Return some of these vectors: a slice, positions or a mask."""
        return Vectors(self.file, self.rows[index])

    @property
    def dim(self) -> int:
        """Return D."""
        return int(self.open().shape[1])

    def open(self) -> np.ndarray:
        """Map the whole matrix, float16 [M, D]."""
        matrix: np.ndarray = np.load(self.file, mmap_mode="r")
        return matrix

    def load(self) -> np.ndarray:
        """Read these vectors, of unit length again after float16's rounding; float32 [N, D]."""
        matrix = self.open()
        vectors = np.empty((len(self.rows), matrix.shape[1]), dtype=np.float32)
        for start in range(0, len(vectors), BLOCK):
            block = vectors[start : start + BLOCK]
            block[:] = matrix[self.rows[start : start + BLOCK]]
            block /= np.linalg.norm(block, axis=1, keepdims=True)
        return vectors
