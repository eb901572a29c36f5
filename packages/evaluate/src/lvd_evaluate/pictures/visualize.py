"""Pictures of what patch tokens hold: joint PCA, attention of the class token, matching parts; one PNG each."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lvd_evaluate.config import EvaluateConfig
from lvd_evaluate.contracts import Encoder
from lvd_evaluate.encoders import find_device, load_encoder
from lvd_evaluate.errors import InputError
from lvd_evaluate.images import decode_rgb
from lvd_evaluate.pictures.attention_maps import attend
from lvd_evaluate.pictures.matching import Match, match_parts
from lvd_evaluate.pictures.pca import colour_parts, find_foregrounds
from lvd_evaluate.pictures.sheets import colour_scale, draw_matches, enlarge, sheet
from lvd_evaluate.publish import hold_folder, publish_bytes

if TYPE_CHECKING:
    from PIL import Image

MAX_RATIO = 6  # of an image's sides: beyond, its long side would be thousands of tokens
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """One image as the network saw it, and what came out."""

    name: str  # for file names
    image: np.ndarray  # uint8 [H, W, 3], sides multiples of the patch size
    tokens: Tensor  # [h, w, D], patch tokens of the last layer


def run_visualize(
    ckpt: str, images: Sequence[Path], out: Path, config: EvaluateConfig, baselines: Sequence[str] = ()
) -> list[Path]:
    """Draw what the model under test and its baselines see in the same images; the same call gives the same bytes.

    Args:
        ckpt: SPEC of the model under test; it must open and have patch tokens.
        images: files.
        out: receives pictures/KIND-MODEL[-IMAGE...].png, which the report of that folder shows.
        config: `visualize`, `features.device` and `seed` are read.
        baselines: SPECs; one that cannot be had or drawn is named in the log and left out.

    Returns:
        The pictures, model by model: PCA of all images, attention of each, matches of each with its successor.

    Raises:
        InputError: no image, one that cannot be read, or the model under test cannot be used.
    """
    if not images:
        raise InputError("visualize: give at least one image file")
    for path in images:
        _open_image(path)  # before a model is loaded for nothing
    device = find_device(config.features.device)
    written: list[Path] = []
    with hold_folder(out):
        for spec in dict.fromkeys([ckpt, *baselines]):
            try:
                encoder = load_encoder(spec, image_size=config.data.image_size, seed=config.seed, device=device)
                for name, content in draw_model(encoder, images, config):
                    written.append(out / "pictures" / f"{name}.png")
                    publish_bytes(written[-1], content)
            except InputError as error:
                if spec == ckpt or str(error).startswith("image "):
                    raise
                logger.warning("%s is left out: %s", spec, str(error).removeprefix(f"{spec}: "))
    return written


def draw_model(encoder: Encoder, images: Sequence[Path], config: EvaluateConfig) -> Iterator[tuple[str, bytes]]:
    """Names and PNG files of one model's pictures."""
    settings, model = config.visualize, _slug(encoder.name)
    views = [
        view_image(encoder, path, settings.image_size, f"{number}-{_slug(path.stem)}")
        for number, path in enumerate(images, start=1)
    ]
    grids = [view.tokens for view in views]
    foregrounds = find_foregrounds(grids)
    colours = colour_parts(grids, foregrounds)
    shown = [enlarge(view.image, settings.height) for view in views]
    drawn = [enlarge(part.numpy(), settings.height, like=image) for part, image in zip(colours, shown, strict=True)]
    yield f"pca-{model}", sheet([shown, drawn])

    for view, image in zip(views, shown, strict=True):
        try:
            heads = attend(encoder.at_size(*view.image.shape[:2]), _batch(view.image))[0]  # [heads, h, w]
        except InputError as error:
            logger.info("%s: no attention is drawn: %s", encoder.name, str(error).removeprefix(f"{encoder.spec}: "))
            break
        maps = [enlarge(colour_scale(head.numpy()), settings.height, like=image) for head in heads]
        panels = [image, *maps]
        yield (
            f"attention-{model}-{view.name}",
            sheet([panels[start : start + settings.columns] for start in range(0, len(panels), settings.columns)]),
        )

    for first, second in zip(range(len(views)), range(1, len(views)), strict=False):
        matches = match_parts(
            grids[first],
            grids[second],
            (foregrounds[first], foregrounds[second]),
            count=settings.matches,
            distance=settings.distance,
        )
        yield (
            f"matches-{model}-{views[first].name}-{views[second].name}",
            draw_matches(shown[first], shown[second], _centres(matches, grids[first], grids[second])),
        )


def view_image(encoder: Encoder, path: Path, size: int, name: str) -> View:
    """Tokens of a whole image, uncropped: short side near `size`, both sides to the nearest multiple of the patch.

    Raises:
        InputError: the encoder has no patch tokens, or the file is no image or too narrow.
    """
    if encoder.patch_size is None:
        raise InputError(f"{encoder.spec}: has no patch tokens to draw")
    image = _open_image(path)
    factor = size / min(image.size)
    width, height = (max(round(side * factor / encoder.patch_size), 1) * encoder.patch_size for side in image.size)
    pixels = np.asarray(image.resize((width, height), _bicubic()))  # [H, W, 3]
    (tokens,) = encoder.at_size(height, width).encode(_batch(pixels), 1)
    assert tokens.patches is not None
    return View(name, pixels, tokens.patches[0].float().cpu())


def _open_image(path: Path) -> Image.Image:
    if not path.is_file():
        raise InputError(f"image {path}: no such file")
    try:
        image = decode_rgb(path.read_bytes())
    except InputError as error:
        raise InputError(f"image {path} {error}") from error
    if max(image.size) > MAX_RATIO * min(image.size):
        raise InputError(f"image {path}: {image.width}x{image.height} pixels are too narrow to draw")
    return image


def _bicubic() -> Image.Resampling:
    from PIL import Image

    return Image.Resampling.BICUBIC


def _batch(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]  # [1, 3, H, W]


def _centres(
    matches: Sequence[Match], first: Tensor, second: Tensor
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Middles of matched patches as shares of each image's height and width."""
    return [
        (
            ((match.first[0] + 0.5) / first.shape[0], (match.first[1] + 0.5) / first.shape[1]),
            ((match.second[0] + 0.5) / second.shape[0], (match.second[1] + 0.5) / second.shape[1]),
        )
        for match in matches
    ]


def _slug(name: str) -> str:
    return re.sub(r"[^\w.]+", "_", name).strip("_")[:60]
