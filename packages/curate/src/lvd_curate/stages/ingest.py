"""Ingest: find every input file and where its bytes lie, without reading them.

An input is a folder of images (searched recursively), a Parquet file or a folder of them with image bytes, a Hugging
Face dataset folder (`data/*.parquet`), or a hub id `hf:OWNER/NAME[:split]` (a path that is not here and looks like
OWNER/NAME is taken for one), which is streamed into Parquet files in the work folder first.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lvd_curate.columns import LISTING
from lvd_curate.errors import InputError
from lvd_curate.images import known_extensions
from lvd_curate.locations import find_image_column

logger = logging.getLogger(__name__)

HUB_ID = re.compile(r"^(?:hf:)?(?P<name>[\w.-]+/[\w.-]+)(?::(?P<split>[\w.\[\]%-]+))?$")
DOWNLOAD_ROWS = 500  # images per downloaded Parquet file


def list_images(role: str, source: str, location: str, downloads: Path) -> pl.DataFrame:
    """Return the LISTING of one input set, by path and row; hub sets are downloaded into `downloads` once.

    Raises InputError when there is nothing at the location, nothing readable, or not a single image in it.
    """
    path = Path(location).absolute()
    if location.startswith("hf:") or not path.exists():
        path = download(location, downloads)
    rows = list(list_parquet(path)) if find_parquet(path) else sorted(list_folder(path))
    if not rows:
        extensions = "no file with an image's extension and no Parquet file"
        raise InputError(f"the {role} set {source!r} is empty: {extensions} in {location}")
    columns = ("path", "file", "item", "stamp")
    table = pl.DataFrame(rows, schema={name: LISTING[name] for name in columns}, orient="row")
    return table.with_columns(role=pl.lit(role), source=pl.lit(source)).select(LISTING.names())


def list_folder(root: Path) -> Iterator[tuple[str, bytes, None, int]]:
    """Walk a folder of images; links to folders are not followed, so no walk is endless."""
    if not root.is_dir():
        raise InputError(f"{root} is neither a folder nor a Parquet file")
    extensions, ignored, waiting = known_extensions(), 0, [root]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif os.path.splitext(entry.name)[1].lower() in extensions:
                    yield show(Path(entry.path), root), os.fsencode(entry.path), None, stamp(Path(entry.path))
                else:
                    ignored += 1
    if ignored:
        logger.info("%s: %d files without an image's extension are no input", root, ignored)


def find_parquet(path: Path) -> list[Path]:
    """Return the Parquet files that a path stands for: itself, its `data/` (Hugging Face), or those directly in it."""
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    return sorted(path.glob("data/*.parquet")) or sorted(path.glob("*.parquet"))


def list_parquet(path: Path) -> Iterator[tuple[str, bytes, int, int]]:
    """List the rows of Parquet files as `file#row`."""
    root = path if path.is_dir() else path.parent
    for file in find_parquet(path):
        try:
            schema, rows = pq.read_schema(file), pq.read_metadata(file).num_rows
        except pa.ArrowInvalid as error:
            raise InputError(f"{file} is no readable Parquet file: {error}") from error
        find_image_column(file, schema)
        name, location, written = show(file, root), os.fsencode(file), stamp(file)
        yield from ((f"{name}#{row}", location, row, written) for row in range(rows))


def show(path: Path, root: Path) -> str:
    """Return a path relative to its root as text, whatever bytes its name is made of."""
    return os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace")


def stamp(path: Path) -> int:
    """Return a number that changes when the file or the right to read it does: its times and its size, mixed.

    It decides what is read again, never what the dataset holds.
    """
    try:
        status = path.stat()
    except OSError:  # a broken link: screening will say so
        return 0
    mixed = (status.st_mtime_ns * 1_000_003 + status.st_ctime_ns) * 1_000_003 + status.st_size
    return mixed % (1 << 63)


def download(location: str, downloads: Path) -> Path:
    """Stream a hub dataset's images into Parquet files, original bytes untouched; return their folder."""
    match = HUB_ID.match(location)
    if match is None:
        raise InputError(f"no folder or file at {location}")
    digest = hashlib.sha256(location.encode()).hexdigest()[:8]  # a/b-c and a-b/c must not share a folder
    folder = downloads / "-".join((re.sub(r"\W+", "-", location), digest))
    if folder.exists():
        return folder
    draft = folder.with_name(folder.name + ".partial")
    draft.mkdir(parents=True, exist_ok=True)
    for number, batch in enumerate(stream_hub(match["name"], match["split"] or "train", location)):
        pq.write_table(pa.table({"image": pa.array(batch, type=pa.binary())}), draft / f"part-{number:06d}.parquet")
    os.rename(draft, folder)
    return folder


def stream_hub(name: str, split: str, location: str) -> Iterator[list[bytes | None]]:
    """Yield batches of the original bytes of a hub dataset's first image column."""
    import datasets

    try:
        stream = datasets.load_dataset(name, split=split, streaming=True)
        column = next(n for n, kind in (stream.features or {}).items() if isinstance(kind, datasets.Image))
        batches = stream.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        for batch in batches.iter(batch_size=DOWNLOAD_ROWS):
            yield [value and value["bytes"] for value in batch[column]]
    except StopIteration:
        raise InputError(f"{location}: the hub dataset {name} has no image column") from None
    except Exception as error:  # the hub's client raises many kinds for: not found, gated, no network
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{location} is not a folder or file here, and as a hub id it cannot be reached ({first}); give a folder "
            "of images, a Parquet file or folder, a Hugging Face dataset folder, or hf:OWNER/NAME[:split]"
        ) from error
