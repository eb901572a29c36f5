"""Files on disk: folders searched to the bottom, patterns such as `shards/{000..099}.tar`, lists of paths."""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from lvd_curate.columns import Entry
from lvd_curate.errors import InputError
from lvd_curate.inputs.file_names import show_name, stamp_file

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


def walk_files(root: Path) -> Iterator[bytes]:
    """Yield every file below a folder, in the order of the paths' bytes; only the folders on the way are in memory.

    Links to folders are yielded, not followed: no walk is endless. Raises InputError for a folder that may not be read.
    """
    waiting = [iter(scan_folder(os.fsencode(root)))]
    while waiting:
        for path in waiting[-1]:
            if path.endswith(b"/"):
                waiting.append(iter(scan_folder(path)))
                break
            yield path
        else:
            waiting.pop()


def scan_folder(folder: bytes) -> list[bytes]:
    """Return the paths in a folder, sorted as the whole walk must be: its folders end in a slash."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path + b"/" if entry.is_dir(follow_symlinks=False) else entry.path for entry in entries)
    except PermissionError as error:
        raise InputError(f"{show_name(folder)} may not be read ({error.strerror}); grant access or move it") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{show_name(folder)} went away while it was read; start the same command again") from error


def is_pattern(location: str) -> bool:
    """Tell whether a location holds wildcards or braces."""
    return any(sign in location for sign in "*?[{")


def expand_pattern(pattern: str) -> Iterator[Path]:
    """Yield the files a pattern stands for: `{000..099}` and `{a,b}` in their order, `*`, `?`, `[...]` sorted.

    Raises InputError for a name from braces that is not there, and for wildcards that match nothing.
    """
    for name in expand_braces(pattern):
        if not any(sign in name for sign in "*?["):
            if not os.path.exists(name):
                raise InputError(f"no file at {name}, which {pattern} asks for")
            yield Path(name)
            continue
        found = sorted(glob.glob(name), key=os.fsencode)
        if not found:
            raise InputError(f"no file matches {name}")
        yield from map(Path, found)


def expand_braces(pattern: str) -> Iterator[str]:
    """Yield what a pattern says without its braces; numbers keep the zeros of the first."""
    found = BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    numbers = RANGE.fullmatch(found[1])
    if numbers is None:
        choices: Iterator[str] = iter(found[1].split(","))
    else:
        first, last = numbers.groups()
        choices = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    for choice in choices:
        yield from expand_braces(pattern[: found.start()] + choice + pattern[found.end() :])


def pattern_root(pattern: str) -> Path:
    """Return the deepest folder that a pattern names without wildcards and braces."""
    parts = Path(pattern).parts
    plain = next(number for number, part in enumerate(parts) if is_pattern(part))
    return Path(*parts[:plain]).absolute()


def list_paths(file: Path) -> Iterator[Entry]:
    """List the images that a text file names, one path per line, relative to its own folder or absolute.

    Raises InputError for a list that is not UTF-8. A path that leads nowhere is an entry: reading it will say so.
    """
    folder = file.absolute().parent
    try:
        with open(file, encoding="utf-8-sig") as lines:
            for line in map(str.strip, lines):
                if line:
                    yield list_path(line, folder)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file} is no list of paths: not UTF-8 text ({error.reason}); write one path per line"
        ) from error


def list_path(line: str, folder: Path) -> Entry:
    """List one path of a list."""
    if "\0" in line:
        return Entry(show_name(line), b"", 0, fault="no path: it holds a zero byte")
    path = os.fsencode(folder / line)
    return Entry(show_name(line), path, stamp_file(path))
