"""Images made to do harm: how each is made, and what its row says of it."""

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from tests.curate.png_bytes import chunk, png

GOOD = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def save(format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(GOOD).save(buffer, format, **options)
    return buffer.getvalue()


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
