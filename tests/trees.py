"""Folders, compared to the byte."""

from pathlib import Path


def read_tree(folder: Path) -> dict[str, bytes]:
    """Every byte of a folder, by the path inside it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
