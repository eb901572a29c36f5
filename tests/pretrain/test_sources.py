import shutil

import datasets
import pytest

from lvd_pretrain.config import DataConfig
from lvd_pretrain.errors import InputError
from lvd_pretrain.sources import open_images, source_members


@pytest.fixture(scope="module")
def table(images):
    files = sorted(str(path) for path in images.rglob("*.jpg"))
    return datasets.Dataset.from_dict({"image": files, "label": list(range(len(files)))}).cast_column(
        "image", datasets.Image()
    )


def test_folder_is_read_in_path_order(images):
    source = open_images(DataConfig(path=str(images)))
    files = sorted(images.rglob("*.jpg"))
    assert len(source) == len(files) == 24
    assert source.read(5) == files[5].read_bytes()


def test_folder_fingerprint_changes_with_the_data(images, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    one = open_images(DataConfig(path=str(tmp_path))).fingerprint
    (tmp_path / "b.jpg").write_bytes(b"1")
    assert open_images(DataConfig(path=str(tmp_path))).fingerprint != one


@pytest.mark.parametrize("form", ["file", "folder", "saved", "link"])
def test_hugging_face_datasets_give_the_original_bytes(form, table, images, tmp_path):
    root = tmp_path / "set"
    files = sorted(shutil.copytree(images, root / ".images").rglob("*.jpg"))  # a table may name files beside it
    table = table.remove_columns("image").add_column("image", [str(file) for file in files])
    table = table.cast_column("image", datasets.Image())
    if form == "saved":
        table.save_to_disk(root)
        path = root
    else:
        (root / "data").mkdir()
        path = root / ".images/table.parquet" if form == "file" else root
        table.to_parquet(path if form == "file" else root / "data/train-00000-of-00001.parquet")
    if form == "link":  # to another disk, whose paths the rows hold
        path = tmp_path / "link"
        path.symlink_to(root)
    source = open_images(DataConfig(path=str(path)))
    assert len(source) == 24
    assert source.read(3) == files[3].read_bytes()


def test_a_table_may_not_name_files_elsewhere(table, tmp_path):
    table.to_parquet(tmp_path / "table.parquet")
    with pytest.raises(ValueError, match="no file of its dataset"):
        open_images(DataConfig(path=str(tmp_path / "table.parquet"))).read(3)


def test_two_datasets_of_one_folder_name_and_card_stay_apart(table, tmp_path):
    """The library's own cache would serve the first for the second when the card has a `configs` header."""
    card = "---\nconfigs:\n- config_name: default\n  data_files: [{split: train, path: data/train-*.parquet}]\n---\n"
    for count in (3, 7):
        folder = tmp_path / str(count) / "images"
        (folder / "data").mkdir(parents=True)
        (folder / "README.md").write_text(card)
        table.select(range(count)).to_parquet(folder / "data/train-00000-of-00001.parquet")
        assert len(open_images(DataConfig(path=str(folder)))) == count


def test_several_paths_are_one_after_the_other_under_their_names(images, tmp_path):
    paths = {"b": str(images / "part_1"), "a": str(images / "part_0")}
    source = open_images(DataConfig(paths=paths))
    assert len(source) == 16
    assert source.read(8) == sorted((images / "part_0").iterdir())[0].read_bytes()
    members = source_members(source, DataConfig(paths=paths))
    assert {name: rows.tolist() for name, rows in members.items()} == {"b": list(range(8)), "a": list(range(8, 16))}


@pytest.mark.parametrize("selected", [False, True])
def test_sources_are_read_from_their_column_a_missing_one_included(selected, table, tmp_path):
    names = [("web", "book", None)[i % 3] for i in range(24)]
    table = table.add_column("source", names)
    if selected:
        table = table.select(range(23, -1, -1))
        names = names[::-1]
    table.save_to_disk(tmp_path / "saved")
    config = DataConfig(path=str(tmp_path / "saved"))
    members = source_members(open_images(config), config)
    wanted = {str(name).replace("None", "null"): [i for i in range(24) if names[i] == name] for name in set(names)}
    assert {name: rows.tolist() for name, rows in members.items()} == wanted


def test_what_cannot_be_opened_is_named(table, images, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    table.to_parquet(tmp_path / "t.parquet")
    for config, said in (
        (DataConfig(), "data.path is empty"),
        (DataConfig(path=str(tmp_path / "none")), "no such file"),
        (DataConfig(path=str(tmp_path / "empty")), "no image"),
        (DataConfig(path=str(tmp_path / "t.parquet"), column="picture"), "image, label"),
        (DataConfig(path=str(next(images.rglob("*.jpg")))), "not a folder"),
    ):
        with pytest.raises(InputError, match=said):
            open_images(config)


def test_hub_that_cannot_be_reached_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match=r"nobody/nothing: no such file or folder here, and on the hub .*cannot be opened"
    ):
        open_images(DataConfig(path="nobody/nothing"))


def test_tables_open_where_the_cache_cannot_be_written(table, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "file" / "cache"))  # nobody can make it
    (tmp_path / "set" / "data").mkdir(parents=True)
    table.to_parquet(tmp_path / "set/data/train-00000-of-00001.parquet")
    assert len(open_images(DataConfig(path=str(tmp_path / "set")))) == 24
    assert len(open_images(DataConfig(path=str(tmp_path / "set/data/train-00000-of-00001.parquet")))) == 24
    assert capsys.readouterr().err.count("cannot be written: tables are cached in") == 1
