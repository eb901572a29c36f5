"""Frames out of encoded videos, through PyAV where it is installed."""

from __future__ import annotations

import io
from collections.abc import Callable

from lvd_evaluate.errors import InputError


def require_decoder() -> None:
    """Check that encoded videos can be read.

    Raises:
        InputError: PyAV is not installed.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        raise InputError(
            "encoded videos need the extra lvd-evaluate[video]; or give clips as lists or folders of images"
        ) from None


def read_frames(content: bytes, choose: Callable[[int], list[int]]) -> list[bytes]:
    """Some frames of an encoded video, as lossless image files.

    Args:
        content: the file.
        choose: frame numbers, rising, out of how many there are. They are counted by decoding: headers may lie.

    Raises:
        InputError: the file cannot be decoded or holds no frame.
    """
    import av

    try:
        with av.open(io.BytesIO(content), mode="r") as container:
            count = len([None for _ in container.decode(video=0)])
        wanted = choose(count) if count else []
        found: dict[int, bytes] = {}
        with av.open(io.BytesIO(content), mode="r") as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number in wanted:
                    buffer = io.BytesIO()
                    frame.to_image().save(buffer, "BMP")
                    found[number] = buffer.getvalue()
    except Exception as error:  # PyAV and Pillow raise whatever a broken file drives them into
        raise InputError(f"cannot be decoded ({type(error).__name__}: {error})") from error
    if not found:
        raise InputError("holds no frame")
    return [found[number] for number in wanted]
