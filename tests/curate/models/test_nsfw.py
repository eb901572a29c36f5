from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lvd_curate.errors import InputError
from lvd_curate.models.nsfw import load_nsfw, prepare_nsfw


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def test_scores_follow_the_channels_in_the_models_order(redness: Path) -> None:
    classifier = load_nsfw(f"onnx:{redness}", "cpu")
    colours = [(200, 60, 40), (40, 60, 200), (90, 90, 90)]
    scores = classifier.score([prepare_nsfw(Image.new("RGB", (50, 30), colour)) for colour in colours])
    assert scores.dtype == np.float32
    mean_gap = 123 - 104  # of red and blue, which the preprocessing takes away
    expected = [sigmoid((red - blue - mean_gap) / 64) for red, _, blue in colours]
    np.testing.assert_allclose(scores, expected, atol=0.01)  # the JPEG on the way moves a colour by a level or two


def test_the_middle_of_the_squashed_image_is_seen() -> None:
    image = Image.new("RGB", (512, 1024), (128, 128, 128))
    image.paste((255, 0, 0), (0, 0, 512, 40))  # 10 of 256 rows, all of them in the border that is cut off
    pixels = prepare_nsfw(image)
    assert pixels.shape == (224, 224, 3)
    np.testing.assert_allclose(pixels, np.broadcast_to([24, 11, 5], pixels.shape), atol=3)


def test_a_batch_scores_like_its_images_alone(redness: Path, picture) -> None:
    classifier = load_nsfw(f"onnx:{redness}", "cpu")
    pixels = [prepare_nsfw(picture(seed)) for seed in range(5)]
    alone = np.concatenate([classifier.score([one]) for one in pixels])
    np.testing.assert_array_equal(classifier.score(pixels), alone)
    assert len(set(alone.tolist())) == 5


def test_a_model_of_another_layout_is_refused(lamps: Path) -> None:
    with pytest.raises(InputError, match=r"pixels \[B, 224, 224, 3\] to probabilities"):
        load_nsfw(f"onnx:{lamps}", "cpu")


def test_the_fingerprint_follows_the_weights(redness: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(redness)
    weight = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight * 2, "weight"))
    onnx.save(model, tmp_path / "twice.onnx")
    (tmp_path / "same.onnx").write_bytes(redness.read_bytes())
    first, twice, same = (
        load_nsfw(f"onnx:{file}", "cpu").fingerprint
        for file in (redness, tmp_path / "twice.onnx", tmp_path / "same.onnx")
    )
    assert first == same != twice
