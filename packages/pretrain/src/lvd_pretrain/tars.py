"""WebDataset tars read in place: an index of their image members makes any of them one seek away.

Nothing is unpacked, so names inside an archive cannot reach outside it. Members are found by walking the headers once
per process start, a few microseconds each.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lvd_pretrain.errors import InputError

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand_braces(pattern: str) -> list[str]:
    """`a-{000..002}.tar` -> three names; widths are kept, several ranges multiply.

    Raises:
        InputError: a range runs backwards.
    """
    found = RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last = found.groups()
    if int(first) > int(last):
        raise InputError(f"data.path={pattern}: the range {found[0]} runs backwards")
    names = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return [
        name for middle in names for name in expand_braces(pattern[: found.start()] + middle + pattern[found.end() :])
    ]


@dataclass(frozen=True)
class TarSource:
    """Image members of uncompressed tar files, in the order they lie there."""

    tars: list[Path]
    members: NDArray[np.int64]  # [images, 3]: tar, offset, bytes
    fingerprint: str

    def __len__(self) -> int:
        return len(self.members)

    def read(self, index: int) -> bytes:
        """Bytes of one image file."""
        tar, offset, size = (int(value) for value in self.members[index])
        with self.tars[tar].open("rb") as file:
            file.seek(offset)
            return file.read(size)


def open_tars(tars: list[Path], suffixes: set[str], fingerprint: str) -> TarSource:
    """Index every regular file with an image's suffix.

    Raises:
        InputError: a file is compressed, damaged or no tar, or there is no image in any.
    """
    members = [(number, *place) for number, tar in enumerate(tars) for place in _images_in(tar, suffixes)]
    if not members:
        raise InputError(f"data.path={tars[0]}: no image in {len(tars)} tar file(s)")
    return TarSource(tars, np.array(members, dtype=np.int64), fingerprint)


def _images_in(tar: Path, suffixes: set[str]) -> Iterator[tuple[int, int]]:
    """Offset and size of each image in one tar."""
    length = tar.stat().st_size
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                if member.offset_data + member.size > length:
                    raise InputError(f"data.path={tar}: ends in the middle of {member.name}")
                if member.isreg() and not member.issparse() and Path(member.name).suffix.lower() in suffixes:
                    yield member.offset_data, member.size
                archive.members = []  # type: ignore[attr-defined]  # else every header is kept: gigabytes
    except (tarfile.TarError, EOFError, OverflowError) as error:
        raise InputError(f"data.path={tar}: not a plain tar that can be read to its end ({error})") from error
