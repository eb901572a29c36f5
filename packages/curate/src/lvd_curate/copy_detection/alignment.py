"""How alike two thumbnails are once one is laid over the other as well as a small shift, turn and stretch can.

Alignment is Lucas and Kanade's (1981), inverse-free: the change of six affine numbers, of gain and of offset that best
explains the difference is solved for, the view is moved, and again; what a caption covers is left out (its difference
stays large). Likeness is not the correlation of all pixels, which any two bright skies over dark ground have, but the
mean correlation inside small windows, of which the worst may be covered.
"""

import numpy as np

from lvd_curate.copy_detection.views import pixel_centres
from lvd_curate.inputs.images import THUMBNAIL_SIDE

SIDE, PIXELS = THUMBNAIL_SIDE, THUMBNAIL_SIDE**2
ROUNDS = 4  # of alignment
FARTHEST = 0.12  # a number of the map changes by, in one round; 1 is half a thumbnail
BLOCK = 4  # pixels of a block's side; a window is 2x2 blocks
TRUSTED = 0.85  # share of the blocks that take part in the alignment
UNCOVERED = 0.7  # share of the windows (by weight) whose correlations count
CONTRAST, NOISE = 50.0, 4.0  # a thumbnail's standard deviation is brought to the first; the second is what JPEG adds
PAIRS_AT_ONCE = 32  # little enough for the processor's cache


def compare(left: np.ndarray, right: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Return how alike pairs of thumbnails are, the left one seen through a view that may yet move; float32 [P].

    Thumbnails are uint8 [P, 1024], views [P, 2, 3]. 1 is the same picture; strangers mostly lie below 0.7.
    """
    scores = [np.empty(0, dtype=np.float32)]
    for start in range(0, len(left), PAIRS_AT_ONCE):
        block = slice(start, start + PAIRS_AT_ONCE)
        first, second = left[block].astype(np.float32), right[block].astype(np.float32)
        placed = views[block].astype(np.float32)
        likeness = measure_likeness(*sample(first, placed), second)
        moved = align(smooth(first), smooth(second), placed)
        scores.append(np.maximum(likeness, measure_likeness(*sample(first, moved), second)))
    return np.concatenate(scores)


def sample(images: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Look at images [P, 1024] through views [P, 2, 3]; return the pixels [P, 1024] and which of them were in it."""
    place = (views @ pixel_centres().T + 1) * (SIDE / 2) - 0.5  # [P, 2, 1024]
    inside = ((place > -0.75) & (place < SIDE - 0.25)).all(axis=1)
    place = np.clip(place, 0, SIDE - 1.001)
    corner = place.astype(np.int32)
    across, down = (place - corner).transpose(1, 0, 2)
    origin = corner[:, 1] * SIDE + corner[:, 0]
    above, below = (
        take(images, origin + row) * (1 - across) + take(images, origin + row + 1) * across for row in (0, SIDE)
    )
    return above * (1 - down) + below * down, inside


def take(images: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return pixels [P, 1024] of images [P, 1024]."""
    return np.take_along_axis(images, places, axis=1)


def smooth(images: np.ndarray) -> np.ndarray:
    """Blur images [P, 1024] by the binomial 1-2-1, both ways."""
    square = np.pad(images.reshape(-1, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)), mode="edge")
    square = (square[:, :-2] + 2 * square[:, 1:-1] + square[:, 2:]) / 4
    return ((square[:, :, :-2] + 2 * square[:, :, 1:-1] + square[:, :, 2:]) / 4).reshape(len(images), PIXELS)


def align(left: np.ndarray, right: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Move views [P, 2, 3] so that left images [P, 1024] seen through them fit the right ones."""
    centres, weights = pixel_centres(), None
    for _ in range(ROUNDS):
        seen, inside = sample(left, views)
        square = seen.reshape(-1, SIDE, SIDE)
        slopes = [slope.reshape(-1, PIXELS, 1) * (SIDE / 2) for slope in np.gradient(square, axis=(2, 1))]
        causes = np.concatenate(
            [*(slope * centres for slope in slopes), seen[:, :, None], np.ones_like(seen)[:, :, None]], axis=2
        )  # [P, 1024, 8]
        weights = inside if weights is None else weights & inside
        answer = solve(causes, right, weights)  # [P, 8]
        gain = np.where(np.abs(answer[:, 6:7]) < 0.05, 0.05, answer[:, 6:7])
        change = np.clip(answer[:, :6] / gain, -FARTHEST, FARTHEST).reshape(-1, 2, 3)
        views = views + views[:, :, :2] @ change
        weights = trust(seen * answer[:, 6:7] + answer[:, 7:] - right, inside)
    return views


def solve(causes: np.ndarray, effect: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the least-squares answer [P, 8] to causes [P, 1024, 8] @ answer = effect [P, 1024], slightly damped."""
    weighed = (causes * weights[:, :, None]).transpose(0, 2, 1)
    normal = weighed @ causes
    damping = np.array([1e-4] * 6 + [0, 0]) * np.trace(normal, axis1=1, axis2=2)[:, None] / 8 + 1e-3
    return np.linalg.solve(normal + damping[:, :, None] * np.eye(8), weighed @ effect[:, :, None])[:, :, 0].astype(
        np.float32
    )


def trust(residuals: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return which pixels [P, 1024] lie in the blocks whose residuals are smallest."""
    seen = add_blocks(inside.astype(np.float32))
    error = np.where(seen > BLOCK**2 / 2, add_blocks(residuals**2 * inside) / np.maximum(seen, 1), np.inf)
    flat = error.reshape(len(error), -1)
    rank = np.maximum((np.isfinite(flat).sum(axis=1) * TRUSTED).astype(int) - 1, 0)
    bar = np.take_along_axis(np.sort(flat, axis=1), rank[:, None], axis=1)[:, :, None]
    return (error <= bar).repeat(BLOCK, axis=1).repeat(BLOCK, axis=2).reshape(-1, PIXELS) & inside


def add_blocks(pixels: np.ndarray) -> np.ndarray:
    """Add up images [P, 1024] over blocks, float32 [P, 8, 8]."""
    count = SIDE // BLOCK
    return pixels.reshape(-1, count, BLOCK, count, BLOCK).sum(axis=(2, 4), dtype=np.float32)


def add_windows(pixels: np.ndarray) -> np.ndarray:
    """Add up images [P, 1024] over windows of 2x2 blocks that overlap by half, float32 [P, 49]."""
    blocks = add_blocks(pixels)
    return (blocks[:, :-1, :-1] + blocks[:, 1:, :-1] + blocks[:, :-1, 1:] + blocks[:, 1:, 1:]).reshape(len(pixels), -1)


def measure_likeness(left: np.ndarray, inside: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the mean correlation in the windows that fit best, float32 [P]; images are [P, 1024].

    A window weighs by the root of its contrast: flat sky says little, and one sharp outline must not say all.
    """
    mask = inside.astype(np.float32)
    left, right = (set_contrast(images) * mask for images in (left, right))
    count = add_windows(mask)
    some = np.maximum(count, 1)
    means = [add_windows(images) / some for images in (left, right)]
    spreads = [
        np.maximum(add_windows(images**2) / some - mean**2, 0)
        for images, mean in zip((left, right), means, strict=True)
    ]
    shared = add_windows(left * right) / some - means[0] * means[1]
    correlation = shared / np.sqrt((spreads[0] + NOISE**2) * (spreads[1] + NOISE**2))
    weight = (spreads[0] * spreads[1]) ** 0.125 * (count > 2 * BLOCK**2)
    order = np.argsort(-correlation, axis=1, kind="stable")
    correlation, weight = (np.take_along_axis(values, order, axis=1) for values in (correlation, weight))
    sums = np.cumsum(weight, axis=1)
    weight = weight * (sums <= UNCOVERED * sums[:, -1:])
    return (correlation * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-6)


def set_contrast(images: np.ndarray) -> np.ndarray:
    """Give images [P, 1024] mean 0 and one standard deviation."""
    centred = images - images.mean(axis=1, keepdims=True)
    return centred * (CONTRAST / np.maximum(centred.std(axis=1, keepdims=True), 1))
