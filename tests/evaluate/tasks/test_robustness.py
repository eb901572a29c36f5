import dataclasses
import io

import datasets
import numpy as np
import pytest
from PIL import Image

from lvd_evaluate.config import DataConfig, RobustnessConfig
from lvd_evaluate.contracts import Split, Task
from lvd_evaluate.errors import InputError
from lvd_evaluate.features import transform_image
from lvd_evaluate.tasks.corruptions import corrupt
from lvd_evaluate.tasks.robustness import NONE, corrupt_images, encoder_for, load_robustness_sets

CLASSES = ["red", "green", "blue"]
CONFIG = RobustnessConfig()
COLUMNS = DataConfig()


def _image(value: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(value).integers(0, 255, (14, 18, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _split(name: str, count: int, offset: int) -> Split:
    files = [_image(offset + row) for row in range(count)]
    return Split(
        name, lambda start, stop: files[start:stop], np.arange(count) % 3, np.array(list("abcdef")[:count]), name
    )


@pytest.fixture
def task():
    return Task("colours", CLASSES, _split("train", 6, 0), _split("test", 3, 50))


def _table(path, labels, names=None, **columns):
    images = [{"bytes": _image(100 + row), "path": None} for row in range(len(labels))]
    table = datasets.Dataset.from_dict({"image": images, "label": labels, **columns})
    if names:
        table = table.cast_column("label", datasets.ClassLabel(names=names))
    table.to_parquet(path)
    return f"{path.stem}={path}"


def _load(value, task, data=COLUMNS, settings=CONFIG):
    (found,) = load_robustness_sets([value], data, settings, task)
    return found


def test_labels_are_matched_by_name_and_answers_restricted_to_what_occurs(tmp_path, task):
    value = _table(tmp_path / "art.parquet", [0, 1, 1, 0], names=["blue", "red"])
    found = _load(value, task)
    assert (found.name, len(found.images), found.corruptions) == ("art", 4, None)
    assert found.accepted.tolist() == [[2], [0], [0], [2]]
    assert found.classes.tolist() == [0, 2]
    assert found.images.read(1, 2) == [_image(101)]
    assert _load(value, task, settings=RobustnessConfig(restrict=False)).classes.tolist() == [0, 1, 2]
    limited = _load(value, task, DataConfig(limit_test=1))
    assert (len(limited.images), limited.images.limited, limited.classes.tolist()) == (1, True, [0, 2])
    assert limited.fingerprint != found.fingerprint == _load(value, task).fingerprint


def test_of_several_labels_any_is_right_and_images_without_are_left_out(tmp_path, task):
    found = _load(_table(tmp_path / "real.parquet", [[2, 0], [], [1]]), task)
    assert found.accepted.tolist() == [[2, 0], [1, NONE]]
    assert found.classes.tolist() == [0, 1, 2]  # nothing is restricted
    assert found.images.read(0, 2) == [_image(100), _image(102)]


@pytest.mark.parametrize("labels", [["red", "violet"], [0, 3], [1, -1], [True, False]])
def test_labels_of_no_class_are_named(tmp_path, task, labels):
    with pytest.raises(InputError, match=r"strange: label .* is none of the base task's: red, green, blue"):
        _load(_table(tmp_path / "strange.parquet", labels), task)


def test_integers_stand_for_classes_of_that_integer_where_classes_are_integers(tmp_path, task):
    numbered = dataclasses.replace(task, classes=["5", "7", "9"])
    assert _load(_table(tmp_path / "x.parquet", [9, 5]), numbered).accepted.tolist() == [[2], [0]]


def test_a_table_of_corruptions_knows_which_rows_are_one_image(tmp_path, task):
    names = ["Fog", "Fog", "Fog", "Fog", "jpeg compression", "jpeg compression"]
    columns = {"corruption": names, "severity": [1, 1, 2, 2, 1, 1]}
    found = _load(_table(tmp_path / "c.parquet", [0, 1, 0, 1, 0, 1], **columns), task)
    assert found.corruptions.names == ("fog", "jpeg_compression")
    assert found.corruptions.unit.tolist() == [0, 1, 0, 1, 0, 1]
    assert found.classes.tolist() == [0, 1, 2]
    limited = _load(_table(tmp_path / "l.parquet", [0, 1, 0, 1, 0, 1], **columns), task, DataConfig(limit_test=1))
    assert limited.corruptions.severity.tolist() == [1, 2, 1]
    unlike = _load(_table(tmp_path / "u.parquet", [0, 1, 1, 0, 0, 1], **columns), task)
    assert unlike.corruptions.unit.tolist() == [0, 1, 2, 3, 4, 5]


def test_our_own_corruptions_show_every_test_image_at_five_severities(task):
    found = corrupt_images(task.test, ["noise", "jpeg"], 3)
    assert len(found.images) == 2 * 5 * 3
    assert found.corruptions.unit[:4].tolist() == [0, 1, 2, 0]
    row = 1 * 15 + 2 * 3 + 1  # jpeg, severity 3, image 1
    assert (found.corruptions.corruption[row], found.corruptions.severity[row]) == (1, 3)
    crop = transform_image(task.test.read(1, 2)[0], 256, 224).transpose(1, 2, 0)
    pixels = np.asarray(Image.open(io.BytesIO(found.images.read(row, row + 1)[0])))
    assert np.array_equal(pixels, corrupt(crop, "jpeg", 3, np.random.default_rng(0)))
    assert found.images.read(2, 5) == [content for row in (2, 3, 4) for content in found.images.read(row, row + 1)]
    assert len(set(found.images.ids)) == 30
    assert found.accepted[row].tolist() == [1]


def test_a_set_by_another_name_is_another_set(task):
    found = corrupt_images(task.test, ["noise"], 3)
    assert dataclasses.replace(found, name="other").fingerprint != found.fingerprint
    assert corrupt_images(task.test, ["noise"], 3).fingerprint == found.fingerprint


def test_corrupted_crops_lose_no_border_again(task, make_encoder):
    encoder = make_encoder()
    assert encoder_for(corrupt_images(task.test, ["blur"], 3), encoder).resize_size == encoder.image_size
    assert encoder.resize_size == 18


def test_nothing_to_test_on_is_said(task, tmp_path):
    with pytest.raises(InputError, match="add --data NAME=PATH or robustness"):
        load_robustness_sets([], DataConfig(), CONFIG, task)
    with pytest.raises(InputError, match=r"no image of .* has a label"):
        _load(_table(tmp_path / "none.parquet", [[], []]), task)
    value = _table(tmp_path / "a.parquet", [0, 1])
    with pytest.raises(InputError, match="two sets are called the same"):
        load_robustness_sets([value, value], DataConfig(), CONFIG, task)


def test_unknown_corruptions_are_named():
    with pytest.raises(InputError, match=r"robustness\.corruptions: no snow; choose among noise, blur, contrast, jpeg"):
        RobustnessConfig(corruptions=("snow",))
