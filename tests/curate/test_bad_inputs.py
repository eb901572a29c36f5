"""What users and the world hand to `curate build-lvd`: a row with a reason, or one line and exit code 2. Never more."""

import io
import json
import os
import pickle
import random
import re
import socket
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lvd_curate import folders, locations
from lvd_curate.cli import main
from lvd_curate.columns import SCREENED
from lvd_curate.config import ScreenConfig
from lvd_curate.images import decode_rgb
from lvd_curate.stages.screen import screen_file

Draw = Callable[..., Image.Image]
Encode = Callable[..., bytes]


def run_curate(*words: object) -> tuple[int, str]:
    """Run the command in this process; return its exit code and what it wrote to stdout and stderr."""
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["curate", *map(str, words)])
        patch.setattr(sys, "stdout", shown)
        patch.setattr(sys, "stderr", shown)
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0), shown.getvalue()


@pytest.fixture(scope="module")
def numb_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A TorchScript encoder of contrasts: an image of one colour gives NaN."""
    import torch
    from torch import nn

    class Contrasts(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            grid = nn.functional.adaptive_avg_pool2d(pixels, 4).mean(1).flatten(1)
            return (grid - grid.mean(1, keepdim=True)) / grid.std(1, keepdim=True)

    file = tmp_path_factory.mktemp("numb") / "contrasts.pt"
    torch.jit.script(Contrasts()).save(file)  # type: ignore[no-untyped-call]
    return f"torchscript:{file}"


def write_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


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
        "program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\nshowpage\n",
        "flipped.png": whole["PNG"][:60] + b"\xff\xff" + whole["PNG"][62:],
        "bomb.png": write_png(60_000, 60_000),
        "hollow.png": write_png(64, 64),
        "flat.png": write_png(64, 0),
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
    "files/program.eps": "not an image|damaged: ",
    "files/flipped.png": "damaged: ",
    "files/bomb.png": "decompression bomb: 60000x60000 pixels",
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
    tmp_path_factory: pytest.TempPathFactory, picture: Draw, jpeg: Encode, numb_encoder: str
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


Spoil = Callable[[Path], list[str]]
"""Writes something bad below a folder and returns the words that name it."""


def write(name: str, data: bytes | str, *words: str) -> Spoil:
    """Write one file `name` below {1}, and name it in `words` as {0}, or as a second pool."""

    def spoil(root: Path) -> list[str]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
        return [word.format(root / name, root) for word in words or ("--pool=bad={}",)]

    return spoil


def say(*words: str) -> Spoil:
    """Write nothing; {} is the folder."""
    return lambda root: [word.format(root) for word in words]


def write_table(columns: dict[str, Any], cut: float = 1.0, suffix: str = "parquet") -> Spoil:
    """Write a table, or its first part, as a second pool."""

    def spoil(root: Path) -> list[str]:
        file, table = root / f"x.{suffix}", pa.table(columns)
        if suffix == "parquet":
            pq.write_table(table, file)
        else:
            with pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * cut)])
        return [f"--pool=bad={file}"]

    return spoil


def write_vectors(matrix: Any, names: str | None = "a.jpg\nb.jpg\n", pickled: bool = False) -> Spoil:
    """Write a .npy and its names as ready-made embeddings."""

    def spoil(root: Path) -> list[str]:
        np.save(root / "x.npy", matrix, allow_pickle=pickled)
        if names is not None:
            (root / "x.txt").write_text(names)
        return [f"embed.encoder=embeddings:{root / 'x.npy'}"]

    return spoil


def write_vector_table(columns: dict[str, Any]) -> Spoil:
    """Write a Parquet file of ready-made embeddings."""

    def spoil(root: Path) -> list[str]:
        pq.write_table(pa.table(columns), root / "x.parquet")
        return [f"embed.encoder=embeddings:{root / 'x.parquet'}"]

    return spoil


def make_pipe(root: Path) -> list[str]:
    os.mkfifo(root / "x.tar")
    return [f"--pool=bad={root / 'x.tar'}"]


def save_without_its_data(root: Path) -> list[str]:
    table = pa.table({"image": [b"x"]})
    datasets.Dataset(table).save_to_disk(root / "saved", num_shards=1)
    (root / "saved/state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data-0.arrow"}, {"filename": "../up.arrow"}]})
    )
    return [f"--pool=bad={root / 'saved'}"]


def fill_output(root: Path) -> list[str]:
    (root / "out").mkdir()
    (root / "out/thesis.tex").write_text("ten years of work")
    return []


BYTES = {"image": [bytes(1000)] * 50}
RUNS: dict[str, tuple[Spoil, str]] = {
    "missing path": (say("--pool=bad={}/none/at/all"), "no folder or file at .*none/at/all; give a folder"),
    "empty folder": (lambda root: (root / "e").mkdir() or [f"--pool=e={root}/e"], "the pool set 'e' is empty"),
    "no image in a folder": (write("d/notes.md", "x", "--pool=d={1}/d"), "the pool set 'd' is empty"),
    "blank place": (write("r.yaml", "pool: {p: ' '}", "{}"), "the pool set 'p' names no place"),
    "file of another kind": (write("x.docx", "x"), r"x\.docx is neither a folder nor a file of images; give"),
    "pipe": (make_pipe, r"x\.tar is neither a folder nor a file of images"),
    "name too long": (say("--pool=bad={}/" + "x" * 300), "File name too long"),
    "hub unreachable": (say("--pool=bad=hf:nobody/nothing"), "as a hub id it cannot be reached .*no network"),
    "hub id of one word": (say("--pool=bad=hf:nobody"), "no folder or file at hf:nobody; give a folder"),
    "broken seeds": (
        write("b/x.jpg", "x", "--seeds=seeds={1}/b"),
        r"the seeds hold no usable image: .*x\.jpg is not an image",
    ),
    "pattern without match": (say("--pool=bad={}/*.tar"), r"no file matches .*\*\.tar"),
    "brace without file": (say("--pool=bad={}/{{0..3}}.tar"), r"no file at .*0\.tar, which"),
    "list not UTF-8": (write("l.txt", "é".encode("latin-1")), "no list of paths: not UTF-8"),
    "empty list": (write("l.txt", "\n\n"), "the pool set 'bad' is empty"),
    "tar of nothing": (write("x.tar", b""), r"x\.tar is no readable tar archive"),
    "tar of garbage": (write("x.tar", b"garbage" * 999), r"x\.tar is no readable tar archive"),
    "tar without members": (write("x.tar", bytes(10240)), "the pool set 'bad' is empty"),
    "compressed tar": (write("x.tar.gz", b"\x1f\x8b"), r"x\.tar\.gz is compressed.*; unpack it"),
    "Parquet of garbage": (write("x.parquet", "garbage" * 99), r"x\.parquet is no readable Parquet file"),
    "Parquet cut": (write_table(BYTES, cut=0.5), r"x\.parquet is no readable Parquet file"),
    "Parquet without images": (write_table({"label": [1]}), r"x\.parquet: no column of image bytes; it has label"),
    "Parquet of two images": (write_table({"a": [b"x"], "b": [b"x"]}), r"several columns of bytes \(a, b\)"),
    "Parquet without rows": (write_table({"image": pa.array([], pa.binary())}), "the pool set 'bad' is empty"),
    "Arrow of garbage": (write("x.arrow", "garbage" * 99), r"x\.arrow is no readable Arrow file"),
    "Arrow of nothing": (write("x.arrow", b""), r"x\.arrow is no readable Arrow file"),
    "Arrow cut": (write_table(BYTES, cut=0.7, suffix="arrow"), r"x\.arrow is no readable Arrow file"),
    "saved dataset without data": (save_without_its_data, r"data-0\.arrow is missing"),
    "recipe missing": (say("{}/none.yaml"), r"no recipe file at .*none\.yaml"),
    "recipe no YAML": (write("r.yaml", "pool: [}", "{}"), r"r\.yaml"),
    "recipe a list": (write("r.yaml", "[1, 2]", "{}"), r"r\.yaml must map knobs to values"),
    "recipe no text": (write("r.yaml", b"\xff\xfe\x00", "{}"), r"r\.yaml"),
    "two recipes": (say("a.yaml", "b.yaml"), "one recipe at most"),
    "unknown key": (say("retreive.neighbours=3"), "unknown key 'retreive.*; the nearest is 'retrieve"),
    "unknown key in a recipe": (write("r.yaml", "screen: {min_sides: 3}", "{}"), "nearest is 'screen.min_side'"),
    "wrong type": (say("retrieve.neighbours=many"), "retrieve.neighbours: .*many"),
    "number out of range": (say("deduplicate.threshold=7"), r"deduplicate\.threshold=7\.0: a cosine, -1 to 1"),
    "neither recipe nor knob": (say("go"), "'go' is neither a recipe ending in .yaml nor a key=value word"),
    "two sets of one name": (say("--pool=twin=a", "--pool=twin=b"), "two sets are named 'twin'"),
    "set without name": (say("--seeds==x"), "write NAME=PATH"),
    "out inside the pool": (say("--out={}/../good/out"), "lies inside the pool set 'good'"),
    "out is there": (fill_output, "exists and is not this recipe's dataset; move it away"),
    "out is a file": (write("out", "x", "random_seed=1"), "exists and is not this recipe's dataset"),
    "out without folder": (say("--out={}/no/such/out"), "there is no folder .*; make it first"),
    "encoder missing": (say("embed.encoder={}/none"), "encoder .*none' is no folder; give a Model v1 folder"),
    "encoder of an unknown kind": (say("embed.encoder=keras:x"), "encoder 'keras:x' is no folder; give"),
    "encoder broken": (write("m/config.json", "{{", "embed.encoder={1}/m"), "encoder .* give a Model v1 folder"),
    "encoder no TorchScript": (write("x.pt", "x", "embed.encoder=torchscript:{}"), "encoder .* cannot be read"),
    "embeddings missing": (say("embed.encoder=embeddings:{}/none.npy"), r"no embeddings at .*none\.npy; give"),
    "embeddings of another kind": (write("x.csv", "x", "embed.encoder=embeddings:{}"), "no known kind of file; give"),
    "embeddings without names": (write_vectors(np.ones((2, 4)), None), r"x\.npy has no names: put x\.txt"),
    "embeddings too few names": (write_vectors(np.ones((3, 4))), "names 2 vectors, but there are 3"),
    "embeddings of one name": (write_vectors(np.ones((2, 4)), "a\na\n"), "names 'a' more than once"),
    "embeddings of words": (write_vectors(np.array([["a"], ["b"]])), "give a matrix of numbers"),
    "embeddings flat": (write_vectors(np.ones(2)), "holds 2 values of float64; give a matrix"),
    "embeddings pickled": (
        write_vectors(np.array([pickle.Pickler, None]), pickled=True),
        r"x\.npy is no readable \.npy matrix",
    ),
    "embeddings of two widths": (
        write_vector_table({"path": ["0.jpg", "1.jpg"], "embedding": [[1.0, 2.0], [1.0]]}),
        "the vector of row 1 has 1 numbers, others 2",
    ),
    "embeddings without column": (write_vector_table({"path": ["a"]}), "has no column embedding, only path"),
    "embeddings of numbers only": (write_vector_table({"embedding": [[1.0]]}), "neither a column id nor path"),
    "embeddings of no image": (write_vectors(np.ones((2, 4)), "x\ny\n"), "nothing is left"),
    "everything excluded": (say("--exclude=all={}/../good"), "nothing is left of the pool"),
}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, picture: Draw, jpeg: Encode, numb_encoder: str) -> list[str]:
    """A command that works: a small pool `good` and seeds."""
    root = tmp_path_factory.mktemp("sets")
    for name, first in (("good", 0), ("seeds", 100)):
        (root / name).mkdir()
        for number in range(first, first + 4):
            (root / name / f"{number}.jpg").write_bytes(jpeg(picture(number)))
    return [f"--pool=good={root / 'good'}", f"--seeds=seeds={root / 'seeds'}", f"embed.encoder={numb_encoder}"]


@pytest.fixture
def place(words: list[str]) -> Iterator[Path]:
    """An empty folder beside the sets."""
    root = Path(words[0].partition("good=")[2]).parent / "place"
    root.mkdir()
    yield root
    os.rename(root, root.with_name(f"place-{len(list(root.parent.iterdir()))}"))


def expect_one_line(words: list[str], out: Path, message: str) -> None:
    """Run a command that must fail: one line that names the value, exit code 2, nothing published."""
    before = sorted(out.rglob("*")) if out.is_dir() else out.exists()
    code, said = run_curate("build-lvd", *words, "execution.engine=inline")
    lines = [line for line in said.splitlines() if "error" in line.lower()]
    assert code == 2, said
    assert len(lines) == 1, said
    assert lines[0].startswith("curate: error: ")
    assert re.search(message, lines[0]), lines[0]
    assert said.endswith(lines[0] + "\n"), "the error is the last word"
    assert "Traceback" not in said
    assert (sorted(out.rglob("*")) if out.is_dir() else out.exists()) == before


@pytest.mark.parametrize("kind", RUNS)
def test_what_cannot_be_used_is_one_line_and_code_2(
    words: list[str], place: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    spoil, message = RUNS[kind]
    changed = spoil(place)
    replaced = {word.rpartition("=")[0] for word in changed}
    kept = [word for word in [*words, f"--out={place / 'out'}"] if word.rpartition("=")[0] not in replaced]
    expect_one_line([*kept, *changed], place / "out", message)


@pytest.mark.parametrize(
    ("number", "message"),
    [(5, "Input/output error: .*good"), (13, "good may not be read"), (2, "good went away while it was read")],
)
def test_a_folder_that_fails_is_one_line(
    words: list[str], place: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def fail(folder: bytes) -> None:
        raise OSError(number, os.strerror(number), os.fsdecode(folder))

    monkeypatch.setattr(folders.os, "scandir", fail)
    expect_one_line([*words, f"--out={place / 'out'}"], place / "out", message)
