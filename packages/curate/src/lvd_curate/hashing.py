"""Content hashes: sha256 of the bytes, and a 64-bit perceptual hash of what the image looks like.

The perceptual hash keeps the signs of the 64 lowest frequencies (without the mean) of a 2-D cosine transform of the
32x32 grey thumbnail. Mirroring an image negates exactly its odd horizontal frequencies, so the hash of the mirror
image is the hash with those bits inverted: flips cost no second hash.
"""

import hashlib

import numpy as np
from scipy.fft import dctn

FEATURELESS = 2.0  # grey levels of standard deviation below which signs are noise: no hash


def lowest_frequencies(count: int) -> np.ndarray:
    """Return the `count` lowest (vertical, horizontal) frequencies but (0, 0), by length, as int64 [count, 2]."""
    grid = np.indices((count, count)).reshape(2, -1).T
    order = np.lexsort((grid[:, 1], grid[:, 0], (grid**2).sum(axis=1)))
    return grid[order[1 : count + 1]]


FREQUENCIES = lowest_frequencies(64)
BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)
FLIP_MASK = BITS[FREQUENCIES[:, 1] % 2 == 1].sum(dtype=np.uint64)


def content_id(data: bytes) -> str:
    """Return the sha256 of the bytes in hexadecimal: the image's id everywhere."""
    return hashlib.sha256(data).hexdigest()


def perceptual_hash(grey: np.ndarray) -> int | None:
    """Return the 64-bit hash of a grey image [32, 32] in 0..255, or None for one without structure."""
    if grey.std() < FEATURELESS:
        return None
    spectrum = dctn(grey, norm="ortho")
    return int(BITS[spectrum[FREQUENCIES[:, 0], FREQUENCIES[:, 1]] > 0].sum(dtype=np.uint64))


def shrink_thumbnail(grey: np.ndarray) -> bytes:
    """Average a grey image [32, 32] down to [16, 16] and return it as 256 bytes."""
    blocks = grey.reshape(16, 2, 16, 2).mean(axis=(1, 3))
    return np.rint(blocks).astype(np.uint8).tobytes()


def stack_thumbnails(thumbnails: list[bytes]) -> np.ndarray:
    """Return stored thumbnails as zero-mean unit vectors, float32 [N, 256]: their product is a correlation."""
    grey = np.frombuffer(b"".join(thumbnails), dtype=np.uint8).reshape(-1, 256).astype(np.float32)
    centred = grey - grey.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


def correlate(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the correlation of paired thumbnails [N, 256], mirrored where that fits better; float32 [N]."""
    mirrored = right.reshape(-1, 16, 16)[:, :, ::-1].reshape(-1, 256)
    return np.maximum((left * right).sum(axis=1), (left * mirrored).sum(axis=1))
