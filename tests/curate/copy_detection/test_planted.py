import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from lvd_curate.copy_detection.planted import EDITS, plant_copy

SIZES = {"resize 0.4": (80, 60), "crop 5 %": (190, 142), "crop 10 %": (180, 135), "crop 25 %": (150, 112)}


@pytest.mark.parametrize("edit", EDITS)
def test_the_same_seed_plants_the_same_bytes(edit: str, picture: Callable[..., Image.Image]) -> None:
    image = picture(1, (200, 150))
    copies = [plant_copy(image, edit, np.random.default_rng(seed)) for seed in (0, 0)]
    assert copies[0] == copies[1]
    size = Image.open(io.BytesIO(copies[0])).size
    assert size == SIZES.get(edit, (220, 170) if edit == "border" else (200, 150))
    assert plant_copy(picture(2, (3, 2)), edit, np.random.default_rng(0))


def test_edits_do_what_they_are_called(picture: Callable[..., Image.Image]) -> None:
    image = picture(3, (200, 150))

    def edited(name: str) -> np.ndarray:
        data = plant_copy(image, name, np.random.default_rng(1))
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float)

    plain = np.asarray(image, dtype=float)
    assert np.abs(edited("flip")[:, ::-1] - plain).mean() < 4
    assert np.abs(edited("caption")[:130] - plain[:130]).mean() < 4
    assert edited("caption")[135:].mean() < 80
    assert np.abs(edited("border")[10:-10, 10:-10] - plain).mean() < 4
    assert edited("brightness 1.4").mean() > 1.2 * plain.mean()
    assert np.ptp(edited("grey"), axis=2).max() <= 2
    assert len(plant_copy(image, "jpeg 15", np.random.default_rng(0))) < len(
        plant_copy(image, "flip", np.random.default_rng(0))
    )
