import datasets
import pytest

from lvd_pretrain.config import DataConfig
from lvd_pretrain.errors import InputError
from lvd_pretrain.sources import open_images


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


@pytest.mark.parametrize("form", ["file", "folder", "saved"])
def test_hugging_face_datasets_give_the_original_bytes(form, table, images, tmp_path):
    if form == "saved":
        table.save_to_disk(tmp_path / "saved")
        path = tmp_path / "saved"
    else:
        (tmp_path / "set/data").mkdir(parents=True)
        path = tmp_path / "set/data/train-00000-of-00001.parquet"
        table.to_parquet(path)
        path = path if form == "file" else tmp_path / "set"
    source = open_images(DataConfig(path=str(path)))
    assert len(source) == 24
    assert source.read(3) == sorted(images.rglob("*.jpg"))[3].read_bytes()


def test_two_datasets_of_one_folder_name_and_card_stay_apart(table, tmp_path):
    """The library's own cache would serve the first for the second when the card has a `configs` header."""
    card = "---\nconfigs:\n- config_name: default\n  data_files: [{split: train, path: data/train-*.parquet}]\n---\n"
    for count in (3, 7):
        folder = tmp_path / str(count) / "images"
        (folder / "data").mkdir(parents=True)
        (folder / "README.md").write_text(card)
        table.select(range(count)).to_parquet(folder / "data/train-00000-of-00001.parquet")
        assert len(open_images(DataConfig(path=str(folder)))) == count


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
    with pytest.raises(InputError, match=r"nobody/nothing.*cannot be opened"):
        open_images(DataConfig(path="nobody/nothing"))
