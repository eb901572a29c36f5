"""Pictures that probes and `visualize` left behind, as data URIs that a page can carry."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lvd_evaluate.errors import InputError
from lvd_evaluate.images import decode_rgb

FILE_BYTES = 300_000  # a picture above becomes a smaller JPEG
PAGE_BYTES = 12_000_000  # of all pictures of one page; those beyond are named only
WIDTH = 1400  # pixels of a smaller JPEG at most


@dataclass(frozen=True)
class Picture:
    """One picture; `uri` is None where the page was full or the file is no picture."""

    name: str
    uri: str | None


class PictureAlbum:
    """Hands out pictures until the page is full."""

    def __init__(self, room: int = PAGE_BYTES) -> None:
        self.room = room

    def open(self, files: Iterable[Path]) -> list[Picture]:
        """PNG files as pictures, in the given order."""
        return [Picture(file.stem, self._uri(file)) for file in files]

    def _uri(self, file: Path) -> str | None:
        content, kind = file.read_bytes(), "png"
        try:
            image = decode_rgb(content)
        except InputError:
            return None
        if len(content) > FILE_BYTES:
            image.thumbnail((WIDTH, WIDTH * 4))
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=85)
            content, kind = buffer.getvalue(), "jpeg"
        if len(content) > self.room:
            return None
        self.room -= len(content)
        return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def find_pictures(folder: Path) -> list[Path]:
    """PNG files of a folder in the order of their names; none where there is no folder."""
    return sorted(file for file in folder.glob("*.png") if file.is_file()) if folder.is_dir() else []
