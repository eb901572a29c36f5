"""Images, tables and folders that others made: nothing else is opened, no name is obeyed, nobody is asked."""

import os
import shutil

import datasets
import numpy as np
import pytest
from tests.evaluate.hostile.conftest import CODES, TITLE


@pytest.mark.parametrize("path", ["{secret}", "data/../../secret.jpg", "https://host/x.jpg", "/dev/zero", "{pipe}"])
def test_a_table_opens_no_file_elsewhere(refuse, corpus, make_image, tmp_path, path):
    secret, folder = tmp_path / "secret.jpg", tmp_path / "data"
    secret.write_bytes(make_image(0, np.random.default_rng(0)))
    folder.mkdir()
    os.mkfifo(folder / "pipe.jpg")
    cell = {"bytes": None, "path": path.format(secret=secret, pipe=folder / "pipe.jpg")}
    table = datasets.Dataset.from_dict({"image": [cell], "label": ["red"]})
    table.to_parquet(folder / "table.parquet")
    line = refuse("--data", f"test={folder / 'table.parquet'}", data=f"train={corpus / 'train'}")
    assert "test row 0" in line


@pytest.fixture
def hostile_folder(make_image, tmp_path):
    """Classes whose names are markup and terminal codes, among them a pipe and a dangling link."""
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for label, name in enumerate((TITLE.replace("/", "\u2215"), CODES[:-1], "$x^2$ [a](b) | `c`")):
            folder = tmp_path / "hostile" / split / name
            folder.mkdir(parents=True)
            for number in range(6):
                (folder / f"{number}.jpg").write_bytes(make_image((label + number) % 3, generator))  # taken for others
            os.mkfifo(folder / "pipe.jpg")
            (folder / "nowhere.jpg").symlink_to("nothing")
    return tmp_path / "hostile"


def test_names_of_classes_are_shown_and_never_obeyed(knn, hostile_folder, expect_harmless, tmp_path):
    out = tmp_path / "out"
    code, printed, told = knn("--baseline", "pixels:8", data=hostile_folder, out=out)
    assert code == 0, told
    for name in ("report.html", "report.md", "results.jsonl"):
        assert "\x1b" not in (out / name).read_text()
    expect_harmless(out, printed)


def test_a_class_that_is_no_unicode_is_one_line(refuse, make_image, tmp_path):
    folder = tmp_path / "data" / "train" / "class\udcff"
    folder.mkdir(parents=True)
    (folder / "0.jpg").write_bytes(make_image(0, np.random.default_rng(0)))
    shutil.copytree(tmp_path / "data" / "train", tmp_path / "data" / "test")
    assert "not readable as a dataset (UnicodeEncodeError" in refuse(data=tmp_path / "data")


def test_a_measurement_over_local_files_connects_to_nothing(knn, offline):
    with offline():
        code, _, told = knn("--baseline", "pixels:8")
    assert code == 0, told
