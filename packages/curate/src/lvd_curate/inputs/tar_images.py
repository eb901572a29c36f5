"""Images inside webdataset tars: where each one's bytes lie, so that one seek reads it. Nothing is ever extracted."""

import logging
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any, BinaryIO, NamedTuple

from lvd_curate.columns import Entry
from lvd_curate.errors import InputError
from lvd_curate.inputs.file_names import show_name, stamp_file

logger = logging.getLogger(__name__)

MAX_HEADER = 1 << 20  # bytes of a long name or of extended attributes: what claims more would fill the memory
MAX_NAME = 4096  # letters; Linux allows a path as many bytes
DAMAGED = (tarfile.TarError, ValueError, OverflowError, EOFError)  # what `tarfile` raises for headers that lie


class HeaderReader:
    """A file for `tarfile`, which reads whatever length a header claims, also what is less than none."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.tell, self.seek, self.close = stream.tell, stream.seek, stream.close

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; tarfile.ReadError for more than any header has."""
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header that claims {size:,} bytes")
        return self.stream.read(size)


class Member(NamedTuple):
    """One member of a tar."""

    name: str
    offset: int  # of its first byte in the archive
    size: int  # bytes
    fault: str | None  # why its bytes are not to be had


def list_tar(file: bytes, name: str, extensions: frozenset[str]) -> Iterator[Entry]:
    """List a tar's images as `NAME#MEMBER`, in the archive's order; a name that comes again gets ` (2)`, and so on.

    Members that share a key (the name up to its first dot) and follow one another are one sample: beside `key.jpg`,
    `key.mask.png` and `key.json` are no images. Links, sparse members and names that climb out are entries with a
    fault; a damaged archive is listed up to the damage and ends with an entry that says so. Raises InputError where not
    even the first member can be read.
    """
    stamp, seen = stamp_file(file), Counter[str]()
    for _, sample in groupby(list_members(file, name), key=lambda member: split_key(member.name)[0]):
        for member in choose_images(list(sample), extensions):
            shown = show_name(member.name)
            seen[shown] += 1
            again = f" ({seen[shown]})" if seen[shown] > 1 else ""
            yield Entry(f"{name}#{shown}{again}", file, stamp, member.offset, member.size, member.fault)


def split_key(name: str) -> tuple[str, str]:
    """Cut a member's name at the first dot behind its folders: key and extension, lower case, with the dot."""
    folder, slash, base = name.rpartition("/")
    key, dot, extension = base.partition(".")
    return folder + slash + key, (dot + extension).lower()


def choose_images(sample: list[Member], extensions: frozenset[str]) -> list[Member]:
    """Return a sample's images: those whose whole extension is an image's, or else those whose last one is.

    The mark of a damaged archive has no name and always stays.
    """
    plain = [member for member in sample if not member.name or split_key(member.name)[1] in extensions]
    return plain or [member for member in sample if os.path.splitext(member.name)[1].lower() in extensions]


def list_members(file: bytes, name: str) -> Iterator[Member]:
    """Yield all members that are no folders; where the archive is damaged, a last one without a name."""
    with open(file, "rb") as stream:
        length = os.fstat(stream.fileno()).st_size
        archive = open_archive(file, stream)
        end = 0
        while True:
            try:
                found = archive.next()
            except DAMAGED:
                found, end = None, -1
            archive.members.clear()  # type: ignore[attr-defined]  # the library would keep every one
            if found is None or archive.offset <= end:
                break
            end = archive.offset
            if not found.isdir():
                yield describe_member(found, length)
        if end < 0 or not ends_well(archive, length):
            logger.warning("%s is damaged from byte %d on: the members behind it are lost", name, archive.offset)
            yield Member("", 0, 0, f"the archive is damaged from byte {archive.offset} on")


def open_archive(file: bytes, stream: BinaryIO) -> tarfile.TarFile:
    """Open a tar and read its first header; InputError where that is none."""
    reader: Any = HeaderReader(stream)
    try:
        return tarfile.open(fileobj=reader, mode="r:", encoding="utf-8", errors="surrogateescape")
    except DAMAGED as error:
        first = show_name((str(error).splitlines() or [type(error).__name__])[0])
        raise InputError(f"{show_name(file)} is no readable tar archive ({first}); mend it or take it away") from error


def describe_member(member: tarfile.TarInfo, length: int) -> Member:
    """Return where a member of an archive of `length` bytes lies; numbers that cannot be true are none."""
    fault = find_fault(member, length)
    if fault is not None:
        return Member(member.name[-MAX_NAME:], 0, 0, fault)
    return Member(member.name, member.offset_data, member.size, None)


def ends_well(archive: tarfile.TarFile, length: int) -> bool:
    """Tell whether the members ended where the archive does: at a block of zeros, or at the end of the file."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    block = archive.fileobj.read(tarfile.BLOCKSIZE)
    return archive.offset == length if not block else not block.strip(b"\0") and len(block) == tarfile.BLOCKSIZE


def find_fault(member: tarfile.TarInfo, length: int) -> str | None:
    """Say why a member of an archive of `length` bytes holds no image to read; None when it may."""
    if member.issym() or member.islnk():
        return "a link inside an archive"
    if not member.isreg():
        return "no regular file inside an archive"
    if member.issparse():
        return "a sparse file inside an archive"
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "its name climbs out of the archive"
    if len(member.name) > MAX_NAME:
        return f"its name is longer than {MAX_NAME:,} letters"
    if member.size < 0 or member.offset_data + member.size > length:
        return "the archive ends inside this member"
    return None
