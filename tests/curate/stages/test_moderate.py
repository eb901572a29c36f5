from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from lvd_curate.columns import LISTING, MODERATED
from lvd_curate.config import ModerateConfig
from lvd_curate.copy_detection.hashing import content_id
from lvd_curate.errors import InputError
from lvd_curate.stages.moderate import BATCH, fingerprint_models, moderate


def list_files(folder: Path) -> pl.DataFrame:
    files = sorted(folder.iterdir())
    rows = [{"role": "pool", "source": "p", "path": file.name, "file": bytes(file), "stamp": 0} for file in files]
    ids = pl.Series([content_id(file.read_bytes()) for file in files])
    return pl.DataFrame(rows, schema=LISTING).with_columns(id=ids)


@pytest.fixture
def lit(tmp_path: Path) -> pl.DataFrame:
    """Five pictures: all dark, one lamp, two lamps, red, and one lamp in a photo that lies on its side."""
    pictures = [Image.new("RGB", (64, 96), colour) for colour in ["black", "black", "black", "red", "black"]]
    for number, places in ((1, [(24, 40)]), (2, [(8, 8), (48, 80)]), (4, [(24, 40)])):
        for x, y in places:
            pictures[number].paste("white", (x, y, x + 4, y + 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    for number, image in enumerate(pictures):
        if number == 4:
            image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "4.png", exif=exif)
        else:
            image.save(tmp_path / f"{number}.png")
    return list_files(tmp_path)


def test_one_row_per_file_in_order(lit: pl.DataFrame, redness: Path, lamps: Path) -> None:
    table = moderate(lit, ModerateConfig(nsfw=f"onnx:{redness}", faces=f"onnx:{lamps}"), "cpu")
    assert table.schema == MODERATED
    assert table["id"].equals(lit["id"])
    assert table["faces"].list.len().to_list() == [0, 1, 2, 0, 1]
    assert (table["nsfw"] > 0.8).to_list() == [False, False, False, True, False]
    upright = {"left": 18 / 64, "top": 30 / 96, "width": 16 / 64, "height": 24 / 96}
    for row in (1, 4):
        (face,) = table["faces"][row].to_list()
        assert {name: face[name] for name in upright} == pytest.approx(upright)


def test_what_was_not_asked_is_null(lit: pl.DataFrame, redness: Path, lamps: Path) -> None:
    scored = moderate(lit, ModerateConfig(nsfw=f"onnx:{redness}"), "cpu")
    assert (scored["nsfw"].null_count(), scored["faces"].null_count()) == (0, 5)
    boxed = moderate(lit, ModerateConfig(faces=f"onnx:{lamps}"), "cpu")
    assert (boxed["nsfw"].null_count(), boxed["faces"].null_count()) == (5, 0)
    assert moderate(lit.head(0), ModerateConfig(nsfw=f"onnx:{redness}"), "cpu").schema == MODERATED


def test_batches_lose_nothing(tmp_path: Path, redness: Path, jpeg, picture) -> None:
    for seed in range(2 * BATCH + 3):
        (tmp_path / f"{seed:02d}.jpg").write_bytes(jpeg(picture(seed, (32, 32))))
    files = list_files(tmp_path)
    config = ModerateConfig(nsfw=f"onnx:{redness}")
    whole = moderate(files, config, "cpu")
    parts = pl.concat([moderate(files[start : start + 13], config, "cpu") for start in range(0, len(files), 13)])
    assert whole.equals(parts)
    assert np.unique(whole["nsfw"]).size > BATCH


def test_the_face_threshold_is_the_users(lit: pl.DataFrame, lamps: Path) -> None:
    table = moderate(lit, ModerateConfig(faces=f"onnx:{lamps}", face_threshold=0.99), "cpu")
    assert table["faces"].list.len().sum() == 0


def test_a_file_that_vanished_since_screening_is_named(lit: pl.DataFrame, redness: Path, tmp_path: Path) -> None:
    (tmp_path / "2.png").unlink()
    with pytest.raises(InputError, match=r"2\.png could be read"):
        moderate(lit, ModerateConfig(nsfw=f"onnx:{redness}"), "cpu")


def test_models_are_known_by_their_weights_before_any_work(redness: Path, lamps: Path) -> None:
    both = fingerprint_models(ModerateConfig(nsfw=f"onnx:{redness}", faces=f"onnx:{lamps}"), "cpu")
    assert both.keys() == {"nsfw", "faces"}
    assert fingerprint_models(ModerateConfig(nsfw=f"onnx:{redness}"), "cpu") == {"nsfw": both["nsfw"]}
    assert fingerprint_models(ModerateConfig(), "cpu") == {}
    with pytest.raises(InputError, match="there is no file"):
        fingerprint_models(ModerateConfig(faces="onnx:nowhere.onnx"), "cpu")
