import io

import datasets
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from lvd_curate.sample_corpus.files import TRAIN, labelled_images
from lvd_curate.sample_corpus.plan import plan_pool
from lvd_curate.sample_corpus.tables import LabelledWriter, dataset_card, write_truth


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    (folder / "data").mkdir()
    with (folder / "data/train-00000-of-00001.parquet").open("wb") as stream, LabelledWriter(stream) as writer:
        writer.write(labelled_images(0, TRAIN, range(15)))
        writer.write(labelled_images(0, TRAIN, range(15, 24)))
    (folder / "README.md").write_text(dataset_card("train", 24))
    return folder


def test_datasets_opens_the_split(split, tmp_path):
    rows = datasets.load_dataset(str(split), cache_dir=str(tmp_path))["train"]
    assert rows.column_names == ["image", "label", "mask", "depth", "depth_scale"]
    assert rows.features["label"].names[rows[3]["label"]] == "zigzag_ring"
    assert rows["label"] == list(range(12)) * 2
    row = rows[5]
    assert row["image"].mode == "RGB"
    assert np.asarray(row["mask"]).dtype == np.uint8
    assert np.asarray(row["depth"]).dtype == np.uint16
    assert row["depth_scale"] == pytest.approx(0.001)
    assert row["image"].size == row["mask"].size == row["depth"].size


def test_image_bytes_are_passed_through(split):
    table = pq.read_table(split / "data/train-00000-of-00001.parquet")
    assert [row["bytes"] for row in table["image"].to_pylist()] == [
        row.image for row in labelled_images(0, TRAIN, range(24))
    ]


def test_row_groups_are_those_that_were_written(split):
    data = pq.ParquetFile(split / "data/train-00000-of-00001.parquet").metadata
    assert [data.row_group(i).num_rows for i in range(data.num_row_groups)] == [15, 9]


def test_truth_has_one_row_for_each_file():
    pool = plan_pool(150, 24, np.random.default_rng(0))
    buffer = io.BytesIO()
    write_truth(pool, buffer)
    truth = pl.read_parquet(buffer.getvalue())
    assert truth["path"].to_list() == sorted(file.path for file in pool)
    assert truth.columns == ["path", "kind", "of", "label", "in_seeds", "parameters"]
    assert truth.filter(pl.col("kind") == "jpeg")["of"].is_in(truth.filter(pl.col("kind") == "original")["path"]).all()
