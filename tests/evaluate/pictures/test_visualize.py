import logging

import numpy as np
import pytest
from PIL import Image

from lvd_evaluate.config import EvaluateConfig, VisualizeConfig
from lvd_evaluate.errors import InputError
from lvd_evaluate.pictures.visualize import run_visualize

CONFIG = EvaluateConfig(visualize=VisualizeConfig(image_size=56, height=40, columns=2))


@pytest.fixture
def photos(tmp_path):
    """Two images with a bright square, the second one wider; names that are no file names of ours."""
    files = [tmp_path / "a photo.png", tmp_path / "..b%.png"]
    for number, file in enumerate(files):
        pixels = np.random.default_rng(number).integers(0, 60, (48, 48 + 20 * number, 3))
        pixels[12:36, 12:36] += 180
        Image.fromarray(pixels.astype(np.uint8)).save(file)
    return files


def test_each_model_draws_its_pictures_and_the_same_ones_again(run_folder, photos, tmp_path):
    first = run_visualize(str(run_folder), photos, tmp_path / "one", CONFIG, [f"untrained:{run_folder}", "pixels"])
    second = run_visualize(str(run_folder), photos, tmp_path / "two", CONFIG, [f"untrained:{run_folder}", "pixels"])
    assert [file.name for file in first] == [
        *("pca-tiny.png", "attention-tiny-1-a_photo.png", "attention-tiny-2-..b.png"),
        "matches-tiny-1-a_photo-2-..b.png",
        *("pca-untrained_tiny.png", "attention-untrained_tiny-1-a_photo.png", "attention-untrained_tiny-2-..b.png"),
        "matches-untrained_tiny-1-a_photo-2-..b.png",
        *("pca-raw_pixels_32x32.png", "matches-raw_pixels_32x32-1-a_photo-2-..b.png"),
    ]
    assert all(file.parent == tmp_path / "one" / "pictures" for file in first)
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    assert first[0].read_bytes() != first[4].read_bytes()
    assert Image.open(first[0]).height == 40 + 6 + 40
    assert Image.open(first[1]).height == 2 * 40 + 6  # image and two heads, two a row


def test_one_image_has_nothing_to_be_matched_with(run_folder, photos, tmp_path):
    assert [file.name for file in run_visualize(str(run_folder), photos[:1], tmp_path / "out", CONFIG)] == [
        "pca-tiny.png",
        "attention-tiny-1-a_photo.png",
    ]


def test_a_baseline_that_cannot_be_had_is_named_and_left_out(run_folder, photos, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        files = run_visualize(str(run_folder), photos[:1], tmp_path / "out", CONFIG, ["nowhere"])
    assert len(files) == 2
    assert "nowhere is left out" in caplog.text
    with pytest.raises(InputError, match="nowhere"):
        run_visualize("nowhere", photos, tmp_path / "out", CONFIG)


def test_images_that_cannot_be_drawn_are_named_before_a_model_is_loaded(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (700, 100)).save(tmp_path / "narrow.png")
    for name, complaint in (
        ("none.png", "no such file"),
        ("text.png", "cannot be decoded"),
        ("narrow.png", "too narrow"),
    ):
        with pytest.raises(InputError, match=rf"image .*{name}.*{complaint}"):
            run_visualize("nowhere", [tmp_path / name], tmp_path / "out", CONFIG)
    with pytest.raises(InputError, match="at least one image"):
        run_visualize("nowhere", [], tmp_path / "out", CONFIG)


def test_settings_that_draw_nothing_are_refused():
    for wrong in ({"height": 0}, {"matches": 0}, {"distance": -1.0}):
        with pytest.raises(InputError, match=f"visualize.{next(iter(wrong))}"):
            VisualizeConfig(**wrong)
