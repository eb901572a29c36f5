"""Tars made to do harm, and what is said of each."""


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
