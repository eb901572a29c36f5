import hashlib
from pathlib import Path

import datasets
import numpy as np
import pytest

from lvd_evaluate.config import DataConfig
from lvd_evaluate.errors import InputError
from lvd_evaluate.tasks import tables
from lvd_evaluate.tasks.classification import load_one_set, load_task


def test_a_folder_with_train_and_test_is_one_task(corpus):
    task = load_task([str(corpus)], DataConfig())
    assert (task.name, task.classes) == ("colours", ["red", "green", "blue"])
    assert (len(task.train), len(task.test)) == (45, 30)
    assert task.train.labels.tolist() == [0, 1, 2] * 15
    contents = task.test.read(3, 5)
    assert [hashlib.sha256(content).hexdigest() for content in contents] == task.test.ids[3:5].tolist()


def test_a_dataset_folder_with_several_splits_and_parquet_files_give_the_same_task(corpus, tmp_path):
    (tmp_path / "both" / "data").mkdir(parents=True)
    for split, name in (("train", "train"), ("test", "validation")):
        source = next((corpus / split / "data").iterdir())
        (tmp_path / "both" / "data" / f"{name}-00000-of-00001.parquet").write_bytes(source.read_bytes())
    files = {split: next((corpus / split / "data").iterdir()) for split in ("train", "test")}
    expected = load_task([str(corpus)], DataConfig()).fingerprint
    assert load_task([str(tmp_path / "both")], DataConfig()).fingerprint == expected
    assert load_task([f"{split}={file}" for split, file in files.items()], DataConfig()).fingerprint == expected


def test_datasets_of_one_folder_name_and_card_stay_apart(corpus, tmp_path):
    """The library's own cache would serve the first for the second when the card has a `configs` header."""
    files = {split: next((corpus / split / "data").iterdir()) for split in ("train", "test")}
    loaded = []
    for name, order in (("a", ("train", "test")), ("b", ("test", "train"))):
        folder = tmp_path / name / "set"
        (folder / "data").mkdir(parents=True)
        paths = [f"{{split: {split}, path: data/{split}-*.parquet}}" for split in ("train", "test")]
        card = f"---\nconfigs:\n- config_name: default\n  data_files: [{', '.join(paths)}]\n---\n"
        (folder / "README.md").write_text(card)
        for split, source in zip(("train", "test"), order, strict=True):
            (folder / "data" / f"{split}-00000-of-00001.parquet").write_bytes(files[source].read_bytes())
        loaded.append(load_task([str(folder)], DataConfig()))
    assert loaded[0].train.ids.tolist() == loaded[1].test.ids.tolist() != loaded[1].train.ids.tolist()


def test_one_value_without_a_test_split_is_refused(corpus, tmp_path, make_image):
    """Else train would be tested on itself, and noise would score 100 %."""
    (tmp_path / "flat" / "ant").mkdir(parents=True)
    (tmp_path / "flat" / "ant" / "0.jpg").write_bytes(make_image(0, np.random.default_rng(0)))
    for source in (corpus / "train", next((corpus / "train" / "data").iterdir()), tmp_path / "flat"):
        with pytest.raises(
            InputError, match="no separate train and test split; give --data train=PATH --data test=PATH"
        ):
            load_task([str(source)], DataConfig())


def test_train_and_test_of_the_same_images_are_refused(corpus):
    with pytest.raises(InputError, match="the very same images"):
        load_task([f"train={corpus / 'train'}", f"test={next((corpus / 'train' / 'data').iterdir())}"], DataConfig())


def test_shared_images_are_counted_in_one_line(corpus, caplog):
    data = [f"train={corpus / 'train'}", f"test={next((corpus / 'train' / 'data').iterdir())}"]
    load_task(data, DataConfig(limit_test=12))
    assert "12 of 12 test images are in train too" in caplog.text
    caplog.clear()
    load_task([str(corpus)], DataConfig())
    assert "in train too" not in caplog.text


def test_the_name_is_the_folder_above_the_splits_or_the_users(corpus):
    data = [f"{split}={corpus / split}" for split in ("train", "test")]
    assert load_task(data, DataConfig()).name == "colours"
    assert load_task(data, DataConfig(name="hues")).name == "hues"


def test_image_folders_take_their_classes_from_the_folders(tmp_path, make_image):
    generator = np.random.default_rng(0)
    for split, classes in (("train", ["bee", "ant"]), ("test", ["ant"])):
        for name in classes:
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(2):
                (tmp_path / split / name / f"{number}.jpg").write_bytes(make_image(0, generator))
    task = load_task([str(tmp_path)], DataConfig())
    assert task.classes == ["ant", "bee"]
    assert task.train.labels.tolist() == [0, 0, 1, 1]
    assert task.test.labels.tolist() == [0, 0]
    assert task.train.read(0, 1)[0] == (tmp_path / "train" / "ant" / "0.jpg").read_bytes()


def test_a_folder_may_be_a_link_and_hold_links(tmp_path, make_image):
    """As on most clusters, where data lie on another disk."""
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        (tmp_path / "disk" / split / "ant").mkdir(parents=True)
        (tmp_path / "disk" / split / "ant" / "0.jpg").write_bytes(make_image(0, generator))
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "links").mkdir()
    for split in ("train", "test"):
        (tmp_path / "links" / split).symlink_to(tmp_path / "disk" / split)
    plain, linked, links = (load_task([str(tmp_path / name)], DataConfig()) for name in ("disk", "link", "links"))
    assert plain.test.read(0, 1) == linked.test.read(0, 1) == links.test.read(0, 1)


def test_test_labels_are_mapped_by_name_not_by_number(corpus, tmp_path, make_image):
    generator = np.random.default_rng(0)
    table = datasets.Dataset.from_dict(
        {"image": [{"bytes": make_image(0, generator), "path": None}] * 2, "label": [0, 1]}
    )
    table = table.cast_column("label", datasets.ClassLabel(names=["blue", "red"]))
    table.to_parquet(tmp_path / "test.parquet")
    task = load_task([f"train={corpus / 'train'}", f"test={tmp_path / 'test.parquet'}"], DataConfig())
    assert task.test.labels.tolist() == [2, 0]


@pytest.mark.parametrize("values", [["b", "a", "c", "a"], [30, 10, 50, 10]])
def test_text_and_integer_labels_are_sorted_over_train(tmp_path, make_image, values):
    generator = np.random.default_rng(0)
    for split, labels in (("train", values), ("test", values[:2])):
        cells = [{"bytes": make_image(0, generator), "path": None} for _ in labels]
        datasets.Dataset.from_dict({"picture": cells, "kind": labels}).to_parquet(tmp_path / f"{split}.parquet")
    data = [f"{split}={tmp_path / split}.parquet" for split in ("train", "test")]
    task = load_task(data, DataConfig(image="picture", label="kind"))
    assert task.classes == [str(value) for value in sorted(set(values))]
    assert task.train.labels.tolist() == [1, 0, 2, 0]


def test_limits_take_the_first_images_and_change_the_fingerprint(corpus):
    whole, part = (load_task([str(corpus)], DataConfig(limit_train=limit)) for limit in (None, 10))
    assert part.train.labels.tolist() == whole.train.labels[:10].tolist()
    assert (part.train.limited, part.test.limited) == (True, False)
    assert part.train.fingerprint != whole.train.fingerprint
    assert part.test.fingerprint == whole.test.fingerprint


def test_a_changed_label_changes_the_fingerprint(corpus, tmp_path, make_dataset):
    changed = make_dataset(tmp_path / "changed", [0, 1, 2] * 14 + [0, 1, 1], seed=1)
    before = load_task([str(corpus)], DataConfig())
    after = load_task([f"train={changed}", f"test={corpus / 'test'}"], DataConfig())
    assert after.train.fingerprint != before.train.fingerprint


@pytest.mark.parametrize(
    ("data", "config", "expected"),
    [
        (["{corpus}/none"], {}, "no such file or folder"),
        (["train={corpus}/train"], {}, "no test split"),
        (["{corpus}", "test={corpus}/test"], {}, "given twice"),
        (["{corpus}"], {"image": "picture"}, "no column 'picture' in train; there are image, label"),
        (["{corpus}"], {"image": "label", "label": "image"}, "not images"),
    ],
)
def test_what_cannot_be_read_is_named(corpus, data, config, expected):
    with pytest.raises(InputError, match=expected):
        load_task([value.format(corpus=corpus) for value in data], DataConfig(**config))


def test_an_unknown_test_label_is_named(tmp_path, make_image):
    generator = np.random.default_rng(0)
    for split, labels in (("train", ["cat", "dog"]), ("test", ["cat", "cow"])):
        cells = [{"bytes": make_image(0, generator), "path": None} for _ in labels]
        datasets.Dataset.from_dict({"image": cells, "label": labels}).to_parquet(tmp_path / f"{split}.parquet")
    with pytest.raises(InputError, match="train does not have: cow"):
        load_task([f"{split}={tmp_path / split}.parquet" for split in ("train", "test")], DataConfig())


def test_a_file_that_is_no_parquet_is_one_line(tmp_path, corpus):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match="not readable as a dataset") as caught:
        load_task([f"train={tmp_path / 'train.parquet'}", f"test={corpus / 'test'}"], DataConfig())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_hub_that_is_not_reached_is_one_line_with_what_was_asked_for(monkeypatch, wrapped):
    def answer(*args, **kwargs):
        try:
            raise ConnectionError("Couldn't reach 'nowhere' on the Hub (OfflineModeIsEnabled)")
        except ConnectionError as error:
            if wrapped:
                raise RuntimeError("the builder failed") from error
            raise

    monkeypatch.setattr(tables, "prefer_cache_if_unreachable", lambda: None)
    monkeypatch.setattr(datasets, "load_dataset", answer)
    with pytest.raises(InputError, match=r"^nowhere: no such file or folder here, and the hub was not reached.* again"):
        load_task(["nowhere"], DataConfig())


@pytest.mark.parametrize("labels", [[0.5, 1.5], [[0], [1]], [True, False]])
def test_labels_that_name_no_class_are_refused(tmp_path, corpus, make_image, labels):
    cells = [{"bytes": make_image(0, np.random.default_rng(0)), "path": None} for _ in labels]
    datasets.Dataset.from_dict({"image": cells, "label": labels}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(InputError, match="not one integer or text per image"):
        load_task([f"train={tmp_path / 'train.parquet'}", f"test={corpus / 'test'}"], DataConfig())


@pytest.mark.parametrize("kind", ["text", "class label"])
def test_an_image_without_a_label_is_named_by_split_and_row(tmp_path, corpus, make_image, kind):
    generator = np.random.default_rng(0)
    cells = [{"bytes": make_image(0, generator), "path": None} for _ in range(3)]
    labels = ["red", None, "blue"] if kind == "text" else [0, None, 1]
    table = datasets.Dataset.from_dict({"image": cells, "label": labels})
    table = table if kind == "text" else table.cast_column("label", datasets.ClassLabel(names=["red", "blue"]))
    table.to_parquet(tmp_path / "test.parquet")
    with pytest.raises(InputError, match="test row 1: no label in column 'label'"):
        load_task([f"train={corpus / 'train'}", f"test={tmp_path / 'test.parquet'}"], DataConfig())


@pytest.mark.parametrize("path", [None, "nowhere.jpg", "empty.jpg"])
@pytest.mark.parametrize("content", [None, b""])
def test_a_row_without_an_image_is_named_by_split_and_row(tmp_path, corpus, make_image, content, path):
    (tmp_path / "empty.jpg").touch()
    cells = [
        {"bytes": make_image(0, np.random.default_rng(0)), "path": None},
        {"bytes": content, "path": path and str(tmp_path / path)},
    ]
    datasets.Dataset.from_dict({"image": cells, "label": ["red", "red"]}).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(InputError, match="test row 1: "):
        load_task([f"train={corpus / 'train'}", f"test={tmp_path / 'test.parquet'}"], DataConfig())


def test_a_hub_dataset_opens_no_file_but_its_own(tmp_path, corpus, make_image, monkeypatch):
    """A table may name any path; only what the library downloaded belongs to the dataset."""
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(make_image(0, np.random.default_rng(0)))
    owned = Path(datasets.config.HF_DATASETS_CACHE, "owned.jpg")
    owned.write_bytes(make_image(1, np.random.default_rng(1)))

    def serve(path):
        table = datasets.Dataset.from_dict({"image": [{"bytes": None, "path": str(path)}], "label": ["red"]})
        monkeypatch.setattr(tables, "load_splits", lambda source: {"test": table} if source == "a/b" else plain(source))
        return load_task([f"train={corpus / 'train'}", "test=a/b"], DataConfig())

    plain = tables.load_splits
    with pytest.raises(InputError, match="test row 0: names the file"):
        serve(secret)
    assert serve(owned).test.read(0, 1) == [owned.read_bytes()]


def test_one_set_is_train_and_test_for_leave_one_out(corpus):
    task = load_one_set([f"train={corpus / 'train'}"], DataConfig(limit_train=20))
    assert task.train is task.test
    assert len(task.train) == 20
    with pytest.raises(InputError, match="takes one set of images"):
        load_one_set([f"train={corpus / 'train'}", f"test={corpus / 'test'}"], DataConfig())


def test_tables_open_where_the_cache_cannot_be_written(corpus, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "file" / "cache"))  # nobody can make it
    caplog.set_level("INFO")
    assert len(load_task([str(corpus)], DataConfig()).train) > 0
    assert caplog.text.count("cannot be written: tables are cached in") == 1
