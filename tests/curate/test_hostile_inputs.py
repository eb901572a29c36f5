"""Images, tars and tables made to do harm: each ends as a row with a reason or as one line, soon and in little memory.

What is merely broken stands in test_bad_files.py and test_bad_inputs.py; names, outputs and models made to do harm in
test_hostile_names.py. Everything here is read in one child process whose memory is watched.
"""

import gzip
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

GOOD = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
MEMORY = 1200  # MB above what the libraries take; a table below unfolds to 2,000 at a time, and all claims to terabytes
SECONDS = 10.0  # of a core, of one file

READER = """
import json, resource, sys, time
from pathlib import Path
import polars as pl
from lvd_curate.config import ScreenConfig
from lvd_curate.errors import InputError
from lvd_curate.inputs.file_names import show_name
from lvd_curate.stages import ingest, screen

found = {}
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for place in sorted(Path(sys.argv[1]).iterdir()):
    began = time.process_time()
    try:
        listing = pl.concat(ingest.list_images("pool", "p", str(place), Path(sys.argv[2])))
        rows = list(zip(listing["path"], screen.screen(listing, ScreenConfig())["reason"]))
    except InputError as error:
        rows = show_name(str(error))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
    found[place.name] = rows, time.process_time() - began, peak / 1024
print(json.dumps(found))
"""


def save(format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(GOOD).save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes = b"", before: bytes = b"", depth: int = 8, kind: int = 0) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def icon(picture: bytes) -> bytes:
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 64, 64, 0, 0, 1, 32, len(picture), 22) + picture


def apple_icon(picture: bytes) -> bytes:
    body = b"ic07" + struct.pack(">I", 8 + len(picture)) + picture
    return b"icns" + struct.pack(">I", 8 + len(body)) + body


def tiff(*tags: tuple[int, int, int, int], following: int = 0) -> bytes:
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


def many_scans() -> bytes:
    data = save("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 1000 + data[-2:]


def huge_jpeg() -> bytes:
    data = save("JPEG")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :]


def packed_fits() -> bytes:
    cards = ["SIMPLE  = T", "XTENSION= 'BINTABLE'", "ZIMAGE  = T", "ZCMPTYPE= 'GZIP_1  '", "BITPIX  = 8", "NAXIS   = 2"]
    cards += ["NAXIS1  = 0", "NAXIS2  = 0", "ZBITPIX = 8", "ZNAXIS  = 2", "ZNAXIS1 = 64", "ZNAXIS2 = 64", "END"]
    return "".join(card.ljust(80) for card in cards).ljust(2880).encode() + gzip.compress(bytes(1 << 27))


BOMB = png(30_000, 30_000, bytes(1000))
WIDE = ((256, 4, 1, 100_000), (257, 4, 1, 100_000), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 1))
TOO_LARGE = "damaged: Decompressed data too large"
IMAGES: dict[str, tuple[Callable[[], bytes], str]] = {
    "bomb.png": (lambda: png(50_000, 50_000, bytes(1 << 20)), "decompression bomb: 2,500,000,000 pixels"),
    "bomb.ico": (lambda: icon(BOMB), "decompression bomb: 900,000,000 pixels"),
    "bomb.icns": (lambda: apple_icon(BOMB), "decompression bomb: 900,000,000 pixels"),
    "bomb.jpg": (huge_jpeg, "decompression bomb: 4,294,836,225 pixels"),
    "scans.jpg": (many_scans, "decompression bomb: more than 500 scans"),
    "bomb.gif": (
        lambda: b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
        "decompression bomb: 4,294,836,225 pixels",
    ),
    "bomb.tif": (lambda: tiff(*WIDE), "decompression bomb: 10,000,000,000 pixels"),
    "bomb.bmp": (
        lambda: b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
        "decompression bomb",
    ),
    "bomb.tga": (
        lambda: struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 65535, 65535, 24, 0),
        "decompression bomb",
    ),
    "bomb.psd": (
        lambda: b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 300_000, 300_000, 8, 3) + bytes(14),
        "decompression bomb",
    ),
    "bomb.qoi": (lambda: b"qoif" + struct.pack(">IIBB", 2**32 - 1, 2**32 - 1, 4, 0), "decompression bomb"),
    "bomb.ppm": (lambda: b"P6 " + b"9" * 9 + b" 999999999 255\n", "decompression bomb|not an image|damaged: "),
    "digits.ppm": (lambda: b"P6 " + b"9" * 5000 + b" 1 255\n", "not an image|damaged: "),
    "canvas.webp": (
        lambda: b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x02" + b"\0" * 3 + b"\xff" * 6 + b"ANMF\0\0\0\0",
        "not an image|damaged: |decompression bomb",
    ),
    "claims.avif": (lambda: b"\0\0\0\x1cftypavif" + bytes(4) + b"avifmif1" + b"\xff" * 64, "not an image|damaged: "),
    "claims.jxl.png": (lambda: b"\0\0\0\x0cJXL \r\n\x87\n" + b"\xff" * 64, "not an image"),
    "tags.tif": (lambda: tiff((256, 4, 2**32 - 1, 8), (257, 12, 2**31, 2**31), *WIDE[2:]), "not an image|damaged: "),
    "ring.tif": (lambda: tiff(*WIDE[2:], following=8), "not an image|damaged: "),
    "profile.png": (
        lambda: png(64, 64, bytes(65 * 64), chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(1 << 27)))),
        TOO_LARGE,
    ),
    "text.png": (
        lambda: png(64, 64, bytes(65 * 64), chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(1 << 27)))),
        TOO_LARGE,
    ),
    "texts.png": (lambda: png(64, 64, b"", chunk(b"tEXt", b"x\0" + bytes(9)) * 50_000), "damaged: "),
    "exif.jpg": (lambda: save("JPEG", exif=b"Exif\0\0" + tiff((0x0112, 3, 2**32 - 1, 2**31))), ""),
    "packed.fits": (packed_fits, ""),
    "frames.gif": (
        lambda: save("GIF")[:-1] + b",\0\0\0\0\x01\0\x01\0\0\x02\x02L\x01\0" * 20_000 + b";",
        "",
    ),
    "grey16.png": (lambda: png(4000, 4000, bytes(4000 * 8001), depth=16), ""),
    "palette.png": (
        lambda: png(4000, 4000, bytes(4000 * 4001), chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256)), kind=3),
        "",
    ),
    "strip.png": (lambda: png(1, 100_000, bytes(200_000)), "too small: 1x100000 pixels"),
    "script.gif": (lambda: b"GIF89a/*" + bytes(99) + b"*/=1;alert(document.domain)", "not an image|damaged: "),
    "paper.png": (lambda: b"%PDF-1.7\n1 0 obj << /OpenAction << /S /JavaScript >> >> endobj", "not an image"),
    "entity.png": (
        lambda: b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        "not an image",
    ),
    "code.xpm": (
        lambda: b'/* XPM */\nstatic char *x[] = {\n"99999 99999 256 1",\n' + b'"x c #1"\n' * 9,
        "decomp|damaged|not",
    ),
}
SHOWN_ALL_THE_SAME = {name for name, (_, reason) in IMAGES.items() if not reason}  # the harm was beside the pixels


def tar_header(name: bytes = b"a.jpg", size: int = 1, kind: bytes = b"0", magic: bytes = b"ustar\x0000") -> bytes:
    if 0 <= size < 8**11:
        told = b"%011o\0" % size
    else:
        told = (b"\x80" if size > 0 else b"\xff") + (size % 256**11).to_bytes(11, "big")
    head = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + told + b"00000000000\0" + b" " * 8 + kind
    head = (head + bytes(100) + magic).ljust(512, b"\0")
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def extended(key: bytes, value: bytes) -> bytes:
    """Return a PAX header that gives the next member one attribute."""
    rest = b" " + key + b"=" + value + b"\n"
    length = next(n for n in range(len(rest), len(rest) + 9) if len(str(n)) + len(rest) == n)
    data = str(length).encode() + rest
    return tar_header(b"pax", len(data), b"x") + data.ljust(-(-len(data) // 512) * 512, b"\0")


MEMBER = tar_header() + b"x".ljust(512, b"\0")
END, LONG = bytes(1024), 1 << 40
ENDS_INSIDE, NO_TAR = "unreadable: the archive ends inside this member", "is no readable tar archive"
TARS: dict[str, tuple[bytes, str]] = {
    "terabytes": (tar_header(size=LONG) + END, ENDS_INSIDE),
    "more than a number holds": (tar_header(size=1 << 86) + END, ENDS_INSIDE),
    "less than nothing": (MEMBER + tar_header(size=-1024) + END, "the archive is damaged from byte 512"),
    "attributes of a terabyte": (tar_header(kind=b"x", size=LONG) + MEMBER + END, NO_TAR),
    "attributes of less than nothing": (tar_header(kind=b"x", size=-512) + MEMBER + END, NO_TAR),
    "a name of a terabyte": (tar_header(kind=b"L", size=LONG) + MEMBER + END, NO_TAR),
    "a name of a terabyte later": (MEMBER + tar_header(kind=b"L", size=LONG) + END, "the archive is damaged from byte"),
    "a name of many letters": (extended(b"path", b"n" * 9999 + b".jpg") + MEMBER + END, "longer than 4,096 letters"),
    "attributed size": (extended(b"size", b"9" * 30) + MEMBER + END, ENDS_INSIDE),
    "attributed size below nothing": (extended(b"size", b"-512") + MEMBER + END, ENDS_INSIDE),
    "attributed climb": (extended(b"path", b"../../a.jpg") + MEMBER + END, "its name climbs out of the archive"),
    "attributed control": (extended(b"path", b"a\0\x1b[2J\n.jpg") + MEMBER + END, "not an image"),
    "attributed link": (extended(b"linkpath", b"/etc/passwd") + tar_header(kind=b"2", size=0) + END, "a link inside"),
    "sparse terabytes": (
        extended(b"GNU.sparse.realsize", b"9" * 15) + extended(b"GNU.sparse.map", b"0,1") + MEMBER + END,
        "a sparse file inside an archive|is no readable tar",
    ),
    "sparse map of words": (extended(b"GNU.sparse.map", b"a,b") + MEMBER + END, NO_TAR),
    "sparse of old": (tar_header(kind=b"S", magic=b"ustar  \0") + b"x".ljust(512, b"\0") + END, "a sparse file inside"),
    "cut in a header": (MEMBER + tar_header()[:300], "unreadable: the archive is damaged from byte"),
    "attributes of no length": (tar_header(kind=b"x", size=512) + b"0 path=x\n".ljust(512, b"\0") + MEMBER, NO_TAR),
}


class Payload:
    """Would make a folder if it were unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("unpickled",)


def one_column(kind: pa.DataType, values: list[Any], metadata: dict[bytes, bytes] | None = None) -> pa.Table:
    return pa.table([pa.array(values, kind)], schema=pa.schema([pa.field("image", kind, metadata=metadata)]))


def extension(name: bytes, data: bytes) -> pa.Table:
    tags = {b"ARROW:extension:name": name, b"ARROW:extension:metadata": data}
    return one_column(pa.binary(), [b"x"], tags)


def two_fields(*names: str) -> pa.Table:
    parts = [pa.array([b"x"]) for _ in names]
    return pa.table({"image": pa.StructArray.from_arrays(parts, list(names))})


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ELSEWHERE = [{"bytes": None, "path": path} for path in ("/etc/passwd", "http://127.0.0.1:9/a.jpg", "\0", "a.jpg")]
NO_COLUMN = "no column of image bytes"
TABLES: dict[str, tuple[pa.Table, str]] = {
    "pickled type": (extension(b"arrow.py_extension_type", pickle.dumps(Payload())), "not an image"),
    "type of lies": (extension(b"arrow.fixed_shape_tensor", b"{]"), "is no readable"),
    "opaque type": (extension(b"arrow.opaque", b'{"type_name":"x","vendor_name":"y"}'), NO_COLUMN),
    "pickled notes": (
        pa.table(
            [pa.array([b"x"])],
            schema=pa.schema([("image", pa.binary())], metadata={b"pandas": pickle.dumps(Payload())}),
        ),
        "not an image",
    ),
    "deep notes": (
        pa.table(
            [pa.array([b"x"])], schema=pa.schema([("image", pa.binary())], metadata={b"huggingface": b"[" * 10**6})
        ),
        "not an image",
    ),
    "paths elsewhere": (pa.table({"image": pa.array(ELSEWHERE, STRUCT)}), "unreadable: the row holds no image bytes"),
    "a name of megabytes": (
        pa.table({"image": pa.array([{"bytes": b"x", "path": "n" * 10**6 + ".jpg"}], STRUCT)}),
        "not an image",
    ),
    "one name twice": (
        pa.table([pa.array([b"x"]), pa.array([b"y"])], names=["image", "image"]),
        "several columns are named image",
    ),
    "one field twice": (two_fields("bytes", "bytes"), NO_COLUMN),
    "bytes in bytes": (pa.table({"image": pa.array([{"bytes": {"bytes": b"x"}}])}), NO_COLUMN),
    "a list": (one_column(pa.list_(pa.binary()), [[b"x"]]), NO_COLUMN),
    "a number": (one_column(pa.int64(), [1]), NO_COLUMN),
    "a text": (one_column(pa.string(), ["/etc/passwd"]), NO_COLUMN),
    "nothing but rows": (one_column(pa.binary(), [None] * 3_000_000), "3,000,000 rows in .* bytes"),
    "controls in a name": (pa.table({"\x1b[2J\n": [1]}), r"it has \\x1b\[2J\\n"),
    "dots in a name": (pa.table({"image.bytes": [b"x"], "image": [1]}), "not an image"),
}
STATES = {
    "climbs": ('{"_data_files": [{"filename": "../../x.arrow"}]}', "which is no file in its folder"),
    "root": ('{"_data_files": [{"filename": "/etc/passwd"}]}', "which is no file in its folder"),
    "number": ('{"_data_files": [{"filename": 3}]}', "which is no file in its folder"),
    "list": ('{"_data_files": [{"filename": ["x"]}]}', "which is no file in its folder"),
    "control": ('{"_data_files": [{"filename": "\\u001b[2J"}]}', "is missing, which"),
    "half a letter": ('{"_data_files": [{"filename": "\\ud800"}]}', "is missing, which"),
    "deep": ("[" * 100_000, "not an image"),
    "endless": ("", "not an image"),  # a pipe
}


def write_stream(table: pa.Table, file: Path) -> None:
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def write_repeated(file: Path) -> None:
    """Write 70 rows of one value of 30 MB: 1 kB that unfolds to gigabytes."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 70, pa.int32()), pa.array([bytes(30 << 20)]))
    schema = pa.schema([("image", column.type)])
    with pq.ParquetWriter(
        file, schema, compression="zstd", dictionary_pagesize_limit=1 << 30, store_schema=False
    ) as out:
        out.write_table(pa.table({"image": column}))
    assert file.stat().st_size < 2000


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Write everything, read it in a child; return what it found by name, and what it took."""
    root = tmp_path_factory.mktemp("hostile")
    places = root / "in"
    places.mkdir()
    for name, (data, _) in IMAGES.items():
        (places / name).write_bytes(data())
    for name, (archive, _) in TARS.items():
        (places / f"{name}.tar").write_bytes(archive)
    os.truncate(places / "attributes of a terabyte.tar", LONG // 16)  # sparse: the claim is nearly true
    for name, (table, _) in TABLES.items():
        pq.write_table(table, places / f"{name}.parquet")
        if name != "nothing but rows":
            write_stream(table, places / f"{name}.arrow")
    write_repeated(places / "repeated.parquet")
    for name, (state, _) in STATES.items():
        (places / f"saved {name}").mkdir()
        write_stream(one_column(pa.binary(), [b"x"]), places / f"saved {name}/x.arrow")
        if state:
            (places / f"saved {name}/state.json").write_text(state)
        else:
            os.mkfifo(places / f"saved {name}/state.json")
    before = sorted(root.rglob("*"))
    words = [sys.executable, "-W", "ignore", "-c", READER, str(places), str(root / "downloads")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=root, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(root.rglob("*")) == before, "nothing is written, unpacked or unpickled"
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def reasons(told: dict[str, Any], name: str) -> str:
    """Return the one line, or the reasons of all rows with their names."""
    rows = told[name][0]
    return rows if isinstance(rows, str) else "; ".join(f"{reason} ({path})" for path, reason in rows)


EXPECTED = {
    **{name: reason for name, (_, reason) in IMAGES.items()},
    **{f"{name}.tar": reason for name, (_, reason) in TARS.items()},
    **{f"{name}.parquet": reason for name, (_, reason) in TABLES.items()},
    **{f"{name}.arrow": reason for name, (_, reason) in TABLES.items() if name != "nothing but rows"},
    **{f"saved {name}": reason for name, (_, reason) in STATES.items()},
    "repeated.parquet": "not an image",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_harm_ends_as_a_reason(told: dict[str, Any], name: str) -> None:
    said, seconds = reasons(told, name), told[name][1]
    if name in SHOWN_ALL_THE_SAME:
        assert said == f"None ({name})"
    else:
        assert re.search(EXPECTED[name], said), said[:300]
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", said), "no control character in what people read"
    assert max(map(len, said.split("; "))) < 6000
    assert seconds < SECONDS or name == "repeated.parquet"  # 2 GB are truly there


def test_memory_stays_bounded(told: dict[str, Any]) -> None:
    peaks = {name: round(megabytes) for name, (_, _, megabytes) in told.items()}
    assert max(peaks.values()) < MEMORY, peaks
