"""Moderate: a score for unsafe content and boxes around faces, from the models that the recipe names.

Only the processes that moderate load the models, and each keeps them for its next shard.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from PIL import Image

from lvd_curate.columns import FACE, MODERATED
from lvd_curate.config import ModerateConfig
from lvd_curate.errors import InputError
from lvd_curate.inputs.images import UnusableImage, decode_rgb
from lvd_curate.inputs.locations import read_bytes

if TYPE_CHECKING:
    from lvd_curate.models.faces import FaceDetector
    from lvd_curate.models.nsfw import NsfwClassifier

VERSION = 1
BATCH = 32  # images scored at a time, at the classifier's size; their files are decoded one after the other


def fingerprint_models(config: ModerateConfig, device: str) -> dict[str, str]:
    """Load the models that the recipe names and hash them, by knob; InputError when one cannot be had."""
    classifier, detector = load_models(config, device)
    models = {"nsfw": classifier, "faces": detector}
    return {knob: model.fingerprint for knob, model in models.items() if model is not None}


def load_models(config: ModerateConfig, device: str) -> "tuple[NsfwClassifier | None, FaceDetector | None]":
    """Load what the recipe names."""
    from lvd_curate.models.faces import load_faces
    from lvd_curate.models.nsfw import load_nsfw

    classifier = None if config.nsfw is None else load_nsfw(config.nsfw, device)
    detector = None if config.faces is None else load_faces(config.faces, device)
    return classifier, detector


def moderate(files: pl.DataFrame, config: ModerateConfig, device: str) -> pl.DataFrame:
    """Return one MODERATED row per screened file (LISTING and id), in its order."""
    classifier, detector = load_models(config, device)
    images = decode_images(files)
    tables = [MODERATED.to_frame()]
    for start in range(0, len(files), BATCH):
        ids = files["id"][start : start + BATCH]
        scores, boxes = judge(islice(images, len(ids)), classifier, detector, config.face_threshold)
        tables.append(pl.DataFrame({"id": ids, "nsfw": scores, "faces": boxes}, schema=MODERATED))
    return pl.concat(tables)


def set_aside(files: pl.DataFrame, error: str) -> pl.DataFrame:
    """Return MODERATED for files that no attempt could moderate: neither score nor faces."""
    nothing = {name: pl.Series([None] * len(files), dtype=kind) for name, kind in MODERATED.items()}
    return pl.DataFrame(nothing | {"id": files["id"]})


def decode_images(files: pl.DataFrame) -> Iterator[Image.Image | None]:
    """Yield each file as an upright RGB image, None for one found damaged at full size only."""
    for path, data in zip(files["path"], read_bytes(files), strict=True):
        if isinstance(data, OSError):
            raise InputError(f"{path} could be read when it was screened and no longer: {data}")
        try:
            yield decode_rgb(data)
        except UnusableImage:
            yield None


def judge(
    images: Iterable[Image.Image | None],
    classifier: "NsfwClassifier | None",
    detector: "FaceDetector | None",
    face_threshold: float,
) -> tuple[list[float | None], list[list[dict[str, float]] | None]]:
    """Return the scores and the faces of some images; None where there is no model or no image."""
    from lvd_curate.models.nsfw import prepare_nsfw

    pixels: list[np.ndarray] = []
    places: list[int] = []
    faces: list[list[dict[str, float]] | None] = []
    for place, image in enumerate(images):
        faces.append(None)
        if image is not None and classifier is not None:
            pixels.append(prepare_nsfw(image))
            places.append(place)
        if image is not None and detector is not None:
            boxes = detector.detect(image, face_threshold).tolist()
            faces[-1] = [dict(zip(FACE, box, strict=True)) for box in boxes]
    scores: list[float | None] = [None] * len(faces)
    if classifier is not None and pixels:
        for place, score in zip(places, classifier.score(pixels).tolist(), strict=True):
            scores[place] = score
    return scores, faces
