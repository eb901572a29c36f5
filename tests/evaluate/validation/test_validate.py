import io

import datasets
import numpy as np
import pytest
from PIL import Image

from lvd_evaluate.config import DataConfig
from lvd_evaluate.errors import InputError
from lvd_evaluate.validation.findings import FACT, UNUSABLE, WARNING, Finding, tell
from lvd_evaluate.validation.validate import is_usable, validate_data


def _file(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def _noise(seed, size=(12, 16)):
    return _file(np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8))


def _write(path, pictures=("image",), **columns):
    for name in pictures:
        columns[name] = [{"bytes": content, "path": None} for content in columns[name]]
    table = datasets.Dataset.from_dict(columns)
    for name in pictures:
        table = table.cast_column(name, datasets.Image())
    table.to_parquet(path)


def _check(folder, kind, **settings):
    data = [f"{role}={folder / role}.parquet" for role in ("train", "test")]
    return validate_data(data, DataConfig(**settings), kind)


def _said(findings, level):
    return [f"{found.place}: {found.text}" for found in findings if found.level == level]


def test_sound_labels_are_facts_alone(corpus):
    findings = validate_data([str(corpus)], DataConfig(), "classification")
    assert {found.level for found in findings} == {FACT}
    assert "train: 3 classes of 15 images each" in _said(findings, FACT)
    assert "test: 30 images; short sides 32 to 32 pixels, median 32" in _said(findings, FACT)
    assert is_usable(findings)


def test_everything_wrong_with_labels_is_said_at_once(tmp_path):
    images = [_noise(seed) for seed in range(4)]
    _write(tmp_path / "train.parquet", image=[*images[:2], b"no image", images[0]], label=["a", None, "a", "a"])
    _write(tmp_path / "test.parquet", image=[images[0], images[3][:60]], label=["a", "b"])
    findings = _check(tmp_path, "classification")
    unusable = "\n".join(_said(findings, UNUSABLE))
    assert "train: no label in row 1" in unusable
    assert "test: 2 classes of 1 images each" in _said(findings, FACT)
    assert "train: 1 of 4 rows:\n  train row 2: the image cannot be decoded" in unusable
    assert "test row 1: the image cannot be decoded" in unusable
    assert "test: classes that train does not have (1: 'b'): no head can learn them" in unusable
    warnings = _said(findings, WARNING)
    assert "train: a single class, 'a': nothing to tell apart" in warnings
    assert "test: 1 of 2 images are in train, too (row 0)" in warnings
    assert "train: images that repeat another one byte for byte: 1" in warnings
    assert not is_usable(findings)


def test_train_as_test_cannot_be_used(tmp_path):
    for split in ("train", "test"):
        _write(tmp_path / f"{split}.parquet", image=[_noise(0), _noise(1)], label=[0, 1])
    assert any("2 of 2 images are in train" in text for text in _said(_check(tmp_path, "classification"), UNUSABLE))


def test_labels_that_are_no_labels(tmp_path):
    _write(tmp_path / "train.parquet", image=[_noise(0)], label=[0.5])
    _write(tmp_path / "test.parquet", image=[_noise(1)], label=[1])
    assert any(
        "not one integer or text per image" in text for text in _said(_check(tmp_path, "classification"), UNUSABLE)
    )


def _masks(folder, train, test):
    for split, masks in (("train", train), ("test", test)):
        images = [_noise(len(split) + 10 * row) for row in range(len(masks))]
        _write(folder / f"{split}.parquet", ("image", "mask"), image=images, mask=masks)


def test_masks_tell_their_numbers_void_and_zero(tmp_path):
    mask = np.full((12, 16), 255, dtype=np.uint8)
    mask[:, :8], mask[:, 8:12] = 0, 2
    _masks(tmp_path, [_file(mask)], [_file(mask + (mask == 2))])
    findings = _check(tmp_path, "segmentation")
    facts = _said(findings, FACT)
    assert "train: 2 numbers from 0 to 2" in facts
    assert "train: 25.0 % of the pixels are 255 and do not count (data.void)" in facts
    assert any("0 is a class of 50.0 %" in text for text in facts)
    assert _said(findings, WARNING) == ["test: classes that no mask of train has: 3"]
    assert any(
        "50.0 % of the pixels are 0 and do not count" in t
        for t in _said(_check(tmp_path, "segmentation", zero_label_is_void=True), FACT)
    )


def test_masks_that_stop_a_probe_are_named_by_row(tmp_path):
    good = _file(np.zeros((12, 16), dtype=np.uint8))
    small, colour = _file(np.zeros((6, 8), dtype=np.uint8)), _noise(9)
    _masks(tmp_path, [good, small, colour], [_file(np.full((12, 16), 7, dtype=np.uint8))])
    unusable = "\n".join(_said(_check(tmp_path, "segmentation", classes=("road", "sky")), UNUSABLE))
    assert "train: 2 of 3 rows" in unusable
    assert "the image has 16x12 pixels, 'mask' 8x6" in unusable
    assert "it must hold one value per pixel" in unusable
    assert "holds 7; classes are 0 to 1" in unusable


def test_a_wrong_void_value_is_a_warning(tmp_path):
    mask = np.full((12, 16), 255, dtype=np.uint8)
    mask[0] = 1
    _masks(tmp_path, [_file(mask)], [_file(mask)])
    assert any("255 is read as a class" in text for text in _said(_check(tmp_path, "segmentation", void=0), WARNING))


@pytest.mark.parametrize(("scale", "words"), [(1.0, "want data.depth_scale=0.001"), (1e-6, "too small"), (1e-3, None)])
def test_depth_in_the_wrong_unit_is_noticed(tmp_path, scale, words):
    depth = np.full((12, 16), 2500, dtype=np.uint16)
    depth[:3] = 0
    blind = np.zeros((12, 16), dtype=np.uint16)
    for split, seeds in (("train", (0, 1)), ("test", (2, 3))):
        images = [_noise(seed) for seed in seeds]
        _write(tmp_path / f"{split}.parquet", ("image", "depth"), image=images, depth=[_file(depth), _file(blind)])
    findings = _check(tmp_path, "depth", depth_scale=scale)
    warnings = "\n".join(_said(findings, WARNING))
    assert words in warnings if words else "median" not in warnings
    assert "train: no reading at all in row 1" in warnings
    assert "train: 62.5 % of the pixels have no reading and do not count" in _said(findings, FACT)


def test_queries_and_ids_of_retrieval(tmp_path):
    images = [_noise(seed) for seed in range(3)]
    _write(tmp_path / "q.parquet", image=images[:2], easy=[["x"], []])
    _write(tmp_path / "db.parquet", image=[images[2], b"broken"], id=["x", "y"])
    data = [f"queries={tmp_path / 'q.parquet'}", f"database={tmp_path / 'db.parquet'}"]
    findings = validate_data(data, DataConfig(), "retrieval")
    assert any("database image 1: cannot be decoded" in text for text in _said(findings, UNUSABLE))
    assert _said(findings, WARNING) == ["queries: nothing to find for 1 of them (row 1)"]
    _write(tmp_path / "q.parquet", image=images[:2], easy=[["x"], ["z"]])
    (found,) = validate_data(data, DataConfig(), "retrieval")
    assert found.level == UNUSABLE
    assert "no image with the id 'z'" in found.text


def test_what_cannot_be_opened_is_a_finding_and_an_unknown_kind_an_error(tmp_path):
    (found,) = validate_data([str(tmp_path / "nothing")], DataConfig(), "depth")
    assert found.level == UNUSABLE
    assert "no such file" in found.text
    with pytest.raises(InputError, match="choose one of classification"):
        validate_data(["x"], DataConfig(), "poses")


def test_the_text_begins_with_the_worst_and_ends_with_a_verdict():
    text = tell([Finding(FACT, "train", "f"), Finding(UNUSABLE, "test", "u"), Finding(WARNING, "train", "w")])
    assert text.splitlines()[0] == "unusable: test: u"
    assert text.splitlines()[-1] == "cannot be used: 1 unusable, 1 to look at"
    assert tell([]).startswith("can be used")
