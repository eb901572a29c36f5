"""Content hashes: sha256 of the bytes, and a 128-bit perceptual hash of what the image looks like.

One half of the perceptual hash is local: on a grid of 8x8 cells, alternately, whether the picture grows brighter to the
right or downwards; a caption, a frame or a logo changes only the bits that it covers. The other half is global: the
signs of the 64 lowest frequencies (without the mean) of a cosine transform; noise and compression hardly touch them.

Every bit is the sign of a weighted sum of the thumbnail's pixels, and so is every bit of the hash of any view of it
(`views`): one product of matrices gives the hashes of a whole piece of work. Weights are whole numbers, so that the
sums are exact and no bit depends on the machine.
"""

import functools
import hashlib

import numpy as np
from scipy.fft import idctn

from lvd_curate.copy_detection.views import VIEWS, look_through
from lvd_curate.inputs.images import THUMBNAIL_SIDE

FEATURELESS = 2.0  # grey levels of standard deviation below which signs are noise: no hash
GRID = 8  # cells of the local half, each way
HALF = GRID * GRID  # bits
SCALE = 2**24  # of weights, before they are rounded


def content_id(data: bytes) -> str:
    """Return the sha256 of the bytes in hexadecimal: the image's id everywhere."""
    return hashlib.sha256(data).hexdigest()


def perceptual_hash(grey: np.ndarray) -> tuple[int, int] | None:
    """Return both halves (local, global) of the hash of a thumbnail uint8 [32, 32]; None for one without structure."""
    if grey.std() < FEATURELESS:
        return None
    local, everywhere = hash_views(grey.reshape(1, -1), 0)[0].view("<u8")[0].tolist()
    return local, everywhere


def hash_views(thumbnails: np.ndarray, view: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes of thumbnails uint8 [N, 1024] through a view, as they are and mirrored; uint8 [N, 16] each."""
    plain, mirrored = sum_views(thumbnails, view)
    return pack_bits(plain > 0), pack_bits(mirrored > 0)


def sum_views(thumbnails: np.ndarray, view: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums whose signs are those hashes, as they are and mirrored; float64 [N, 128] each.

    The smaller a sum, the likelier a copy has the other sign.
    """
    sums = thumbnails.astype(np.float64) @ weigh_view(view)  # [N, 128]
    order, signs = mirror_bits()
    return sums, sums[:, order] * signs


def pack_bits(bits: np.ndarray) -> np.ndarray:
    """Pack bool [N, 128] into uint8 [N, 16], which viewed as little-endian uint64 [N, 2] are the halves."""
    return np.packbits(bits, axis=1, bitorder="little")


def pack_halves(local: np.ndarray, everywhere: np.ndarray) -> np.ndarray:
    """Return hashes uint8 [N, 16] from their halves uint64 [N]."""
    return np.stack([local, everywhere], axis=1).astype("<u8").view(np.uint8)


@functools.cache
def weigh_view(view: int) -> np.ndarray:
    """Return the weights of every bit of the hash of a view: whole numbers as float64 [1024, 128]."""
    filters = np.concatenate([local_filters(), global_filters()])  # [128, 1024]
    return np.rint(SCALE * (filters @ look_through(VIEWS[view]))).T


def local_filters() -> np.ndarray:
    """Return one difference of neighbouring cells per bit, float64 [64, 1024]."""
    across, down = (cell_means(rows, columns) for rows, columns in ((GRID, GRID + 1), (GRID + 1, GRID)))
    steps = np.where(to_the_right()[:, :, None, None], across[:, 1:] - across[:, :-1], down[1:] - down[:-1])
    return steps.reshape(HALF, -1)


def to_the_right() -> np.ndarray:
    """Tell which cells compare to the right, bool [8, 8]: every other one, alike on both sides of the middle."""
    row, column = np.indices((GRID, GRID))
    return (row + np.minimum(column, GRID - 1 - column)) % 2 == 0


def cell_means(rows: int, columns: int) -> np.ndarray:
    """Return the filters that average a thumbnail over a grid, float64 [rows, columns, 32, 32]."""

    def shares(count: int) -> np.ndarray:
        edges = np.linspace(0, THUMBNAIL_SIDE, count + 1)[:, None]
        pixels = np.arange(THUMBNAIL_SIDE)[None, :]
        covered = np.clip(np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels), 0, None)
        return covered / covered.sum(axis=1, keepdims=True)

    return np.einsum("iy,jx->ijyx", shares(rows), shares(columns))


def global_filters() -> np.ndarray:
    """Return the 64 lowest cosines but the constant, float64 [64, 1024]."""
    waves = np.zeros((HALF, THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    frequencies = lowest_frequencies(HALF)
    waves[np.arange(HALF), frequencies[:, 0], frequencies[:, 1]] = 1
    return idctn(waves, axes=(1, 2), norm="ortho").reshape(HALF, -1)


def lowest_frequencies(count: int) -> np.ndarray:
    """Return the `count` lowest (vertical, horizontal) frequencies but (0, 0), by length, as int64 [count, 2]."""
    grid = np.indices((count, count)).reshape(2, -1).T
    order = np.lexsort((grid[:, 1], grid[:, 0], (grid**2).sum(axis=1)))
    return grid[order[1 : count + 1]]


@functools.cache
def mirror_bits() -> tuple[np.ndarray, np.ndarray]:
    """Return where in a picture's sums those of its mirror image stand, int64 [128], and with which sign [128].

    Mirroring moves a cell to the other side, turns round what compares to the right, and negates odd horizontal waves.
    """
    row, column = np.indices((GRID, GRID)).reshape(2, -1)
    order = np.concatenate([row * GRID + GRID - 1 - column, HALF + np.arange(HALF)])
    odd = lowest_frequencies(HALF)[:, 1] % 2 == 1
    return order, np.where(np.concatenate([to_the_right().ravel(), odd]), -1.0, 1.0)
