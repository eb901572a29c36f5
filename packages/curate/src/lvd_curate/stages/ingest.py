"""Ingest: find every input file and where its bytes lie, without reading them.

A location is one of these, and of a folder everything counts:

- a folder, searched to the bottom (links to files are followed, as caches and subsets are made of them; links to
  folders are not): image files, the images inside `*.tar` (webdataset) and the rows of `*.parquet` and
  `*.arrow` files that have a column of image bytes. Files of other kinds and tables without images are no input, which
  the log says. Two kinds of folder say more exactly what they hold: a Hugging Face dataset folder is the tables in its
  `data/` alone, one by `save_to_disk` the files its `state.json` names.
- one such file, or a pattern of them: `shards/{000..099}.tar`, `shards/*.tar`.
- a `.txt` list of image files, one path per line, relative to the list or absolute.
- a hub id `hf:OWNER/NAME[:split]`, which is streamed into Parquet files in the work folder first.
"""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lvd_curate.columns import LISTING, Entry
from lvd_curate.engine.artifacts import publish_folder, write_whole
from lvd_curate.errors import InputError
from lvd_curate.inputs.file_names import NO_FILE, is_regular, show_name, stamp_file
from lvd_curate.inputs.folders import expand_pattern, is_pattern, list_paths, pattern_root, walk_files
from lvd_curate.inputs.hub import WAYS, parse_hub_id, stream_hub
from lvd_curate.inputs.images import known_extensions
from lvd_curate.inputs.table_images import NoImageColumn, list_table, saved_files
from lvd_curate.inputs.tar_images import list_tar

logger = logging.getLogger(__name__)

FRAME = 4096  # rows of a frame
DOWNLOAD_ROWS = 500  # images per downloaded Parquet file
TABLES = frozenset((".parquet", ".arrow"))
COMPRESSED = re.compile(r"\.(tgz|tar\.\w+)$")


def list_images(role: str, source: str, location: str, downloads: Path) -> Iterator[pl.DataFrame]:
    """Yield the LISTING of one input set in frames, in a fixed order; hub sets are downloaded into `downloads` once.

    Raises InputError when there is nothing at the location, nothing readable, or, at the end, not a single image in it.
    """
    if not location.strip():
        raise InputError(f"the {role} set {source!r} names no place; give {WAYS}")
    columns = {name: LISTING[name] for name in Entry._fields}
    found = Finder()
    entries, count = found.find(location, downloads), 0
    while rows := list(islice(entries, FRAME)):
        count += len(rows)
        frame = pl.DataFrame(rows, schema=columns, orient="row")
        yield frame.with_columns(role=pl.lit(role), source=pl.lit(source)).select(LISTING.names())
    found.report(location)
    if not count:
        raise found.foreign or InputError(
            f"the {role} set {source!r} is empty: no image file, tar or table with image bytes in {location}"
            + (f"; {found.packed}" if found.packed else "")
        )


class Finder:
    """Finds what is input at a location, and remembers what was not."""

    def __init__(self) -> None:
        self.images = frozenset(known_extensions())
        self.taken = Counter[str]()  # files by kind
        self.ignored = Counter[str]()  # files by suffix
        self.linked = 0  # files of input that are links
        self.foreign: NoImageColumn | None = None  # the first table without images
        self.packed: InputError | None = None  # the first compressed archive

    def find(self, location: str, downloads: Path) -> Iterator[Entry]:
        """Yield the entries of a location in the order of its files."""
        path = Path(location).absolute()
        if location.startswith("hf:"):
            yield from self.find_in(download(location, downloads))
        elif path.exists():
            yield from self.find_in(path)
        elif is_pattern(location):
            root = pattern_root(location)
            for file in expand_pattern(location):
                if file.suffix == ".txt" and not location.endswith(".txt"):  # a list may name any file: it is asked for
                    self.ignored[".txt"] += 1
                else:
                    yield from self.find_in(file.absolute(), root)
        else:
            raise InputError(f"no folder or file at {path}; give {WAYS}")

    def find_in(self, path: Path, root: Path | None = None) -> Iterator[Entry]:
        """Yield the entries of a folder or a file, named relative to `root`: the folder, or the file's."""
        if path.is_dir():
            tables = sorted(path.glob("data/*.parquet"), key=os.fsencode)
            start = measure_root(root or path)
            for file in map(os.fsencode, tables) if tables else walk_files(path):
                yield from self.find_file(file, file[start:])
        elif path.suffix == ".txt" and path.is_file():
            yield from list_paths(path)
        else:
            file = os.fsencode(path)
            if not path.is_file() or not (self.is_input(path.suffix.lower()) or self.is_packed(file)):
                raise InputError(f"{path} is neither a folder nor a file of images; give {WAYS}")
            yield from self.find_file(file, file[measure_root(root or path.parent) :])
            if self.packed is not None:
                raise self.packed

    def find_file(self, file: bytes, relative: bytes) -> Iterator[Entry]:
        """Yield the entries of one file, whose name below its set is `relative`."""
        suffix, name = show_name(os.path.splitext(relative)[1]).lower(), show_name(relative)
        self.linked += os.path.islink(file) and self.is_input(suffix)
        if suffix in self.images:
            self.taken["image files"] += 1
            yield Entry(name, file, stamp_file(file))
        elif not self.is_input(suffix) or self.is_cache(file, suffix):
            self.ignored[suffix] += 1
            self.is_packed(file)
        elif not is_regular(file):
            yield Entry(name, file, 0, fault=NO_FILE)
        elif suffix == ".tar":
            self.taken["tars"] += 1
            yield from list_tar(file, name, self.images)
        else:
            try:
                yield from list_table(file, name)
                self.taken["tables"] += 1
            except NoImageColumn as error:
                self.ignored["tables without image bytes"] += 1
                self.foreign = self.foreign or error

    def is_input(self, suffix: str) -> bool:
        """Tell whether files of this suffix may hold images."""
        return suffix in self.images or suffix in TABLES or suffix == ".tar"

    def is_cache(self, file: bytes, suffix: str) -> bool:
        """Tell whether a file lies in a folder by `save_to_disk` without being part of its dataset."""
        path = Path(os.fsdecode(file))
        named = saved_files(path.parent) if suffix == ".arrow" else None
        return named is not None and path.name not in named

    def is_packed(self, file: bytes) -> bool:
        """Tell whether a file is a compressed archive, and remember the first."""
        packed = COMPRESSED.search(show_name(file).lower()) is not None
        if packed and self.packed is None:
            self.packed = InputError(f"{show_name(file)} is compressed, so no image in it can be read alone; unpack it")
        return packed

    def report(self, location: str) -> None:
        """Say what was input, where it was of several kinds, and what was not."""
        if len(self.taken) > 1:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.taken.items()))
            logger.info("%s: all of it counts: %s", location, kinds)
        if self.ignored:
            kinds = ", ".join(f"{count:,} {kind or 'without suffix'}" for kind, count in self.ignored.most_common(5))
            logger.info("%s: %s files are no input (%s)", location, f"{self.ignored.total():,}", kinds)
        if self.linked:
            logger.info(
                "%s: %s files are links; what they lead to is read, wherever it lies", location, f"{self.linked:,}"
            )
        if self.packed:
            logger.warning("%s", self.packed)


def measure_root(root: Path) -> int:
    """Return where names below a folder start in their full paths, in bytes; the folder may be `/`."""
    return len(os.path.join(os.fsencode(root), b""))


def download(location: str, downloads: Path) -> Path:
    """Stream a hub dataset's images into Parquet files, original bytes untouched; return their folder.

    Parts that a killed run finished stay: the stream goes on behind them.
    """
    parse_hub_id(location)
    digest = hashlib.sha256(location.encode()).hexdigest()[:8]  # a/b-c and a-b/c must not share a folder
    folder = downloads / "-".join((re.sub(r"\W+", "-", location), digest))
    if folder.exists():
        return folder
    draft = folder.with_name(folder.name + ".partial")
    draft.mkdir(parents=True, exist_ok=True)
    done = [pq.read_metadata(part).num_rows for part in sorted(draft.glob("part-*.parquet"))]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for number, batch in enumerate(stream_hub(location, sum(done), DOWNLOAD_ROWS), start=len(done)):
        with write_whole(draft / f"part-{number:06d}.parquet") as part:
            pq.write_table(pa.table({"image": pa.array(batch, type=kind)}), part, compression="none")
    publish_folder(draft, folder)
    return folder
