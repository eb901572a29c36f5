"""Files of every bad kind in one pool of `curate build-lvd`: each is a row with a reason; the good ones are kept."""

import io
import os
import random
import socket
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.curate.png_bytes import png

from lvd_curate.columns import SCREENED
from lvd_curate.config import ScreenConfig
from lvd_curate.inputs import locations
from lvd_curate.inputs.images import decode_rgb
from lvd_curate.stages.screen import screen_file

Draw = Callable[..., Image.Image]
Encode = Callable[..., bytes]
Run = Callable[..., tuple[int, str]]


def write_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jpg", b"x")
    return buffer.getvalue()


def write_files(folder: Path, draw: Draw, encode: Encode) -> None:
    """Write files of every bad kind, and a good one or two between them."""
    picture = draw(900)
    whole = {format: encode(picture, format=format) for format in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")}
    for format, data in whole.items():
        (folder / f"cut.{format.lower()}").write_bytes(data[: len(data) // 3])
    contents = {
        "empty.jpg": b"",
        "page.jpg": b"<!doctype html><html><body>404</body></html>",
        "drawing.jpg": b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
        "text.png": b"The quick brown fox",
        "header.jpg": whole["JPEG"][:20],
        "noise.jpg": random.Random(0).randbytes(5000),
        "zeros.jpg": bytes(100_000),
        "archive.jpg": write_zip(),
        "program.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\nshowpage\n",
        "flipped.png": whole["PNG"][:60] + b"\xff\xff" + whole["PNG"][62:],
        "bomb.png": png(60_000, 60_000, kind=2),
        "hollow.png": png(64, 64, kind=2),
        "flat.png": png(64, 0, kind=2),
        "pixel.png": encode(draw(901, (1, 1)), format="PNG"),
        "strip.png": encode(draw(902, (800, 33)), format="PNG"),
        "blank.png": encode(Image.new("RGB", (64, 64), (9, 99, 199)), format="PNG"),
        "again.jpg": encode(draw(0)),
        "failing.jpg": b"a disk that fails",
        "denied.jpg": b"no right to read",
        "line\nend\x1b[31m.jpg": b"x",
        os.fsdecode(b"caf\xe9.jpg"): b"x",
        "x.jpg/inside.jpg": b"x",
    }
    for name, data in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    with open(folder / "endless.jpg", "wb") as file:
        file.truncate(locations.MAX_BYTES + 1)
    for name, target in {"broken": "nowhere", "ring": "ring.jpg", "folder": ".", "device": "/dev/zero"}.items():
        (folder / f"{name}.jpg").symlink_to(target)
    for name in ("pipe.jpg", "pipe.tar", "pipe.parquet", "pipe.arrow"):
        os.mkfifo(folder / name)
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(folder)  # the names of sockets are short
        listener.bind("socket.jpg")
        os.chdir(here)


def write_archives(folder: Path, draw: Draw, encode: Encode) -> None:
    """Write tars and tables with bad members and rows."""
    members: list[tuple[str, bytes, bytes]] = [
        ("good.jpg", tarfile.REGTYPE, encode(draw(910))),
        ("../up.jpg", tarfile.REGTYPE, b"x"),
        ("/root.jpg", tarfile.REGTYPE, b"x"),
        ("soft.jpg", tarfile.SYMTYPE, b""),
        ("hard.jpg", tarfile.LNKTYPE, b""),
        ("tty.jpg", tarfile.CHRTYPE, b""),
        ("pipe.jpg", tarfile.FIFOTYPE, b""),
        ("twice.jpg", tarfile.REGTYPE, encode(draw(911))),
        ("twice.jpg", tarfile.REGTYPE, b"second"),
        ("empty.jpg", tarfile.REGTYPE, b""),
    ]
    for name in ("x.tar", "cut.tar"):
        with tarfile.open(folder / name, "w") as archive:
            for member, kind, data in members if name == "x.tar" else [("last.jpg", tarfile.REGTYPE, bytes(9999))]:
                info = tarfile.TarInfo(member)
                info.type, info.size, info.linkname = kind, len(data), "/etc/passwd" if kind in b"12" else ""
                archive.addfile(info, io.BytesIO(data))
    (folder / "cut.tar").write_bytes((folder / "cut.tar").read_bytes()[:5000])
    values = [{"bytes": encode(draw(912)), "path": "good.jpg"}, None, {"bytes": b"", "path": None}]
    values += [{"bytes": None, "path": "/etc/passwd"}, {"bytes": b"<html>", "path": "../../page.jpg"}]
    table = pa.table({"image": pa.array(values, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))})
    pq.write_table(table, folder / "t.parquet")
    with pa.ipc.new_stream(folder / "t.arrow", table.schema) as writer:
        writer.write_table(table)


NO_FILE = "unreadable: no regular file"
ROWS = {
    **{f"files/cut.{kind}": "damaged: |not an image" for kind in ("jpeg", "png", "gif", "webp", "tiff", "bmp")},
    "files/empty.jpg": "empty file",
    "files/page.jpg": "not an image",
    "files/drawing.jpg": "not an image",
    "files/text.png": "not an image",
    "files/header.jpg": "not an image|damaged: ",
    "files/noise.jpg": "not an image",
    "files/zeros.jpg": "not an image",
    "files/archive.jpg": "not an image",
    "files/program.jpg": "not an image",  # PostScript is never handed to Ghostscript, whatever it is called
    "files/flipped.png": "damaged: ",
    "files/bomb.png": "decompression bomb: 3,600,000,000 pixels",
    "files/hollow.png": "damaged: ",
    "files/flat.png": "not an image|damaged: |too small: 64x0",
    "files/pixel.png": "too small: 1x1 pixels",
    "files/strip.png": "too long: 800x33 pixels",
    "files/blank.png": "the encoder gives no finite vector",
    "files/again.jpg": "exact copy",
    "files/failing.jpg": "unreadable: Input/output error",
    "files/denied.jpg": "unreadable: Permission denied",
    "files/line\\nend\\x1b[31m.jpg": "not an image",
    "files/caf\\xe9.jpg": "not an image",
    "files/x.jpg/inside.jpg": "not an image",
    "files/endless.jpg": "unreadable: 1,073,741,825 bytes are more than an image may have",
    "files/broken.jpg": "unreadable: No such file or directory",
    "files/ring.jpg": "unreadable: Too many levels of symbolic links",
    "files/folder.jpg": NO_FILE,
    "files/device.jpg": NO_FILE,
    "files/pipe.jpg": NO_FILE,
    "files/pipe.tar": NO_FILE,
    "files/pipe.parquet": NO_FILE,
    "files/pipe.arrow": NO_FILE,
    "files/socket.jpg": NO_FILE,
    "packed/x.tar#../up.jpg": "unreadable: its name climbs out of the archive",
    "packed/x.tar#/root.jpg": "unreadable: its name climbs out of the archive",
    "packed/x.tar#soft.jpg": "unreadable: a link inside an archive",
    "packed/x.tar#hard.jpg": "unreadable: a link inside an archive",
    "packed/x.tar#tty.jpg": "unreadable: no regular file inside an archive",
    "packed/x.tar#pipe.jpg": "unreadable: no regular file inside an archive",
    "packed/x.tar#twice.jpg (2)": "not an image",
    "packed/x.tar#empty.jpg": "empty file",
    "packed/cut.tar#last.jpg": "unreadable: the archive ends inside this member",
    "packed/cut.tar#": "unreadable: the archive is damaged from byte",
    "packed/t.parquet#1": "unreadable: the row holds no image bytes",
    "packed/t.parquet#2": "empty file",
    "packed/t.parquet#3/passwd": "unreadable: the row holds no image bytes",
    "packed/t.parquet#4/page.jpg": "not an image",
    "packed/t.arrow#1": "unreadable: the row holds no image bytes",
    "packed/t.arrow#2": "empty file",
    "packed/t.arrow#3/passwd": "unreadable: the row holds no image bytes",
    "packed/t.arrow#4/page.jpg": "not an image",
    "list.txt: gone.jpg": "unreadable: No such file or directory",
    "list.txt: pool/files": NO_FILE,
    "list.txt: zero\\x00.jpg": "unreadable: no path: it holds a zero byte",
    "list.txt: https://example.org/a.jpg": "unreadable: No such file or directory",
}
GOOD = ("packed/x.tar#good.jpg", "packed/x.tar#twice.jpg")


@pytest.fixture(scope="module")
def survived(
    tmp_path_factory: pytest.TempPathFactory, picture: Draw, jpeg: Encode, run_curate: Run, numb_encoder: str
) -> dict[str, tuple[str, str]]:
    """Build a dataset from a pool of bad files; return status and reason of every file of the pool."""
    root = tmp_path_factory.mktemp("bad")
    for name in ("pool/files", "pool/packed", "good", "seeds"):
        (root / name).mkdir(parents=True)
    write_files(root / "pool/files", picture, jpeg)
    write_archives(root / "pool/packed", picture, jpeg)
    for number in range(12):
        (root / "good" / f"{number}.jpg").write_bytes(jpeg(picture(number)))
        (root / "seeds" / f"{number}.jpg").write_bytes(jpeg(picture(100 + number)))
    lines = ("good/1.jpg", "gone.jpg", "", "pool/files", "zero\0.jpg", "https://example.org/a.jpg")
    (root / "list.txt").write_text("\n".join(lines))
    read_some = locations.read_some

    def read_or_fail(stream: Any, size: int) -> bytes:
        for name, number in (("failing.jpg", 5), ("denied.jpg", 13)):
            if os.fsencode(stream.name).endswith(name.encode()):
                raise OSError(number, os.strerror(number))
        return read_some(stream, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locations, "read_some", read_or_fail)
        code, said = run_curate(
            "build-lvd",
            f"--pool=good={root / 'good'}",
            f"--pool=bad={root / 'pool'}",
            f"--pool=list.txt={root / 'list.txt'}",
            f"--seeds=seeds={root / 'seeds'}",
            f"--out={root / 'out'}",
            f"embed.encoder={numb_encoder}",
            "execution.engine=inline",
            "retrieve.neighbours=99",
        )
    assert code == 0, said
    assert "Traceback" not in said
    lineage = pl.read_parquet(root / "out/lineage.parquet").filter(pl.col("role") == "pool")
    images = pl.read_parquet(root / "out/data/*.parquet")
    assert set(images["id"]) == set(pl.read_parquet(root / "out/lineage.parquet").filter(status="kept")["id"])
    assert not list(root.glob("up.jpg")), "nothing is ever extracted"
    name = pl.when(pl.col("source") == "list.txt").then(pl.format("list.txt: {}", "path")).otherwise("path")
    rows = lineage.select(name, "status", "reason").rows()
    assert len(rows) == len({row[0] for row in rows}), "every file once"
    return {name: (status, reason) for name, status, reason in rows}


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_file_is_a_row_with_a_reason(survived: dict[str, tuple[str, str]], name: str) -> None:
    status, reason = survived[name]
    assert status == "dropped"
    assert any(reason.startswith(start) for start in ROWS[name].split("|")), reason


def test_every_bad_kind_is_looked_at_and_the_good_are_kept(survived: dict[str, tuple[str, str]]) -> None:
    bad = {name for name in survived if name.startswith(("files/", "packed/", "list.txt: "))}
    assert bad - set(ROWS) - set(GOOD) == {
        "list.txt: good/1.jpg",
        "packed/t.parquet#0/good.jpg",
        "packed/t.arrow#0/good.jpg",
    }
    assert {survived[name][0] for name in GOOD} == {"kept"}
    assert len(ROWS) >= 40


TAILS = {
    "no end": b"",
    "half an end": b"\0\0\0\0IE",
    "a cut chunk": b"\0\0\x01\xf4tEXtabc",
    "no chunk": b"\0\0\1\0 IENzz",
    "more bytes": b"\0\0\0\0IEND\xaeB`\x82" + b"x" * 99,
}


@pytest.mark.parametrize("tail", TAILS)
def test_what_screening_lets_pass_can_be_decoded(picture: Draw, jpeg: Encode, tail: str) -> None:
    data = jpeg(picture(0), format="PNG")[:-12] + TAILS[tail]
    reason = dict(zip(SCREENED, screen_file(data, ScreenConfig()), strict=True))["reason"]
    if reason is None:
        assert decode_rgb(data).size == (96, 72)
    else:
        assert reason.startswith("damaged: ")
