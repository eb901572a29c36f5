import io
import pickle

import datasets
import numpy as np
import pytest
from PIL import Image

from lvd_evaluate.config import DataConfig
from lvd_evaluate.contracts import VOID
from lvd_evaluate.errors import InputError
from lvd_evaluate.tasks.dense import load_dense_task


def png(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def picture(seed, size=(8, 6)) -> bytes:
    return png(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def mask(*values, size=(8, 6)) -> bytes:
    return png(np.resize(np.array(values, np.uint8), (size[1], size[0])))


def write(path, images, targets, column="mask", **more):
    cells = {"image": images, column: targets}
    table = {name: [content and {"bytes": content, "path": None} for content in cell] for name, cell in cells.items()}
    dataset = datasets.Dataset.from_dict({**table, **more})
    for name in cells:
        dataset = dataset.cast_column(name, datasets.Image())
    dataset.to_parquet(path)
    return path


def task_of(tmp_path, targets, images=None, **settings):
    """Folders: train holds `targets`, test one sound row."""
    images = images or [picture(seed) for seed in range(len(targets))]
    for split, pairs in {"train": zip(images, targets, strict=True), "val": [(picture(99), mask(0, 1))]}.items():
        for number, files in enumerate(pairs):
            for kind, content in zip(("images", "masks"), files, strict=True):
                (tmp_path / split / kind).mkdir(parents=True, exist_ok=True)
                (tmp_path / split / kind / f"{number}.png").write_bytes(content)
    return load_dense_task([str(tmp_path)], DataConfig(**settings), "segmentation")


def table_of(tmp_path, targets, kind="segmentation", **settings):
    """Parquet files: train holds `targets`, test one sound row."""
    column = "mask" if kind == "segmentation" else "depth"
    train = write(tmp_path / "train.parquet", [picture(seed) for seed in range(len(targets))], targets, column)
    test = write(tmp_path / "test.parquet", [picture(99)], [mask(0, 1)], column)
    return load_dense_task([f"train={train}", f"test={test}"], DataConfig(**settings), kind)


def test_masks_keep_their_size_and_void_their_meaning(tmp_path):
    task = table_of(tmp_path, [mask(0, 1, 2, 255), mask(1)])
    image, target = task.train.read(0)
    assert image.size == (8, 6)
    assert image.mode == "RGB"
    assert target.shape == (6, 8)
    assert target.dtype == np.int64
    assert target[0, :4].tolist() == [0, 1, 2, VOID]
    assert task.classes == ["0", "1", "2"]
    assert (len(task.train), len(task.test)) == (2, 1)


def test_zero_as_void_shifts_the_classes_once(tmp_path):
    task = task_of(tmp_path, [mask(0, 1, 150, 255)], zero_label_is_void=True)
    assert task.train.read(0)[1][0, :4].tolist() == [VOID, 0, 149, VOID]
    assert len(task.classes) == 150
    assert task.classes[0] == "1"


def test_background_is_a_class_of_its_own(tmp_path):
    task = task_of(tmp_path, [mask(0, 1)], classes=("background", "aeroplane", "bicycle"))
    assert task.classes == ["background", "aeroplane", "bicycle"]
    assert set(task.train.read(0)[1].ravel().tolist()) == {0, 1}


def test_palette_masks_are_read_by_number_not_by_colour(tmp_path):
    image = Image.fromarray(np.resize(np.array([0, 3, 255], np.uint8), (6, 8)), "L").convert("P")
    image.putpalette([200, 10, 30] * 256)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert task_of(tmp_path, [buffer.getvalue()]).train.read(0)[1][0, :3].tolist() == [0, 3, VOID]


def test_fingerprint_follows_images_targets_and_their_reading(tmp_path):
    def fingerprint(name, targets, **settings):
        (tmp_path / name).mkdir()
        return task_of(tmp_path / name, targets, **settings).fingerprint

    first = fingerprint("a", [mask(0, 1), mask(1)])
    assert first == fingerprint("b", [mask(0, 1), mask(1)])
    assert len({first, fingerprint("c", [mask(1, 1), mask(1)]), fingerprint("d", [mask(0, 1), mask(1)], void=0)}) == 3


@pytest.mark.parametrize(
    ("target", "settings", "words"),
    [
        pytest.param(mask(0, 1, size=(4, 6)), {}, r"train row 0 .*8x6 pixels, 'masks' 4x6", id="size"),
        pytest.param(mask(0, 7), {"classes": ("a", "b")}, r"holds 7; classes are 0 to 1 and 255", id="range"),
        pytest.param(
            mask(0, 3), {"classes": ("a", "b"), "zero_label_is_void": True}, "holds 3; classes are 1 to 2", id="shift"
        ),
        pytest.param(picture(5), {}, "'masks' is an image of mode RGB; it must hold one value per pixel", id="RGB"),
        pytest.param(png(np.full((6, 8), 40_000, np.uint16)), {}, "holds 40000", id="no classes"),
        pytest.param(b"no image", {}, "'masks' cannot be decoded", id="no image"),
        pytest.param(mask(0, 1)[:45], {}, "'masks' cannot be decoded", id="cut"),
        pytest.param(b"", {}, "train row 0, masks: .* is empty", id="empty"),
        pytest.param(mask(255), {}, "no pixel of any mask counts", id="all void"),
    ],
)
def test_targets_that_cannot_be_used_are_one_line(tmp_path, target, settings, words):
    with pytest.raises(InputError, match=words) as caught:
        task_of(tmp_path, [target], **settings)
    assert "\n" not in str(caught.value)


def test_missing_cells_and_columns_are_named(tmp_path):
    with pytest.raises(InputError, match="train row 0, mask: holds no image"):
        table_of(tmp_path, [None])
    with pytest.raises(InputError, match=r"no column 'truth' in train; there are image, mask .set data.mask=NAME"):
        table_of(tmp_path, [mask(0)], mask="truth")


def test_classes_of_test_that_train_lacks_are_named(tmp_path):
    with pytest.raises(InputError, match=r"test row 0 .*holds 1; classes are 0 to 0"):
        task_of(tmp_path, [mask(0)])


def test_images_that_cannot_be_used_are_one_line(tmp_path):
    with pytest.raises(InputError, match=r"train row 1 .*the image cannot be decoded"):
        task_of(tmp_path, [mask(0, 1), mask(0)], images=[picture(0), b"broken"])


def test_test_images_that_are_trains_are_refused(tmp_path):
    with pytest.raises(InputError, match="the very same images"):
        task_of(tmp_path, [mask(0, 1)], images=[picture(99)])


def test_depth_is_metres_and_nothing_is_zero(tmp_path):
    depth = png(np.array([[0, 1000, 2500, 65535]] * 2, np.uint16))
    images = [picture(seed, (4, 2)) for seed in range(3)]
    scales = {"train": [0.001, 0.002], "test": [0.001]}
    data = []
    for name, start in (("train", 0), ("test", 2)):
        count = len(scales[name])
        path = write(
            tmp_path / f"{name}.parquet", images[start : start + count], [depth] * count, "depth",
            depth_scale=scales[name],
        )  # fmt: skip
        data.append(f"{name}={path}")
    task = load_dense_task(data, DataConfig(), "depth")
    first, second = (task.train.read(row)[1] for row in range(2))
    assert first.dtype == np.float32
    assert first[0].tolist() == pytest.approx([0, 1, 2.5, 65.535])
    assert second[0].tolist() == pytest.approx([0, 2, 5, 131.07])
    assert task.classes == []
    fixed = load_dense_task(data, DataConfig(depth_scale=0.01), "depth")
    assert fixed.train.read(1)[1][0, 1] == pytest.approx(10)
    assert fixed.fingerprint != task.fingerprint


def test_depth_needs_a_scale(tmp_path):
    with pytest.raises(InputError, match="no column 'depth_scale'"):
        table_of(tmp_path, [mask(1)], kind="depth")
    with pytest.raises(InputError, match=r"data.depth_scale=-1.0"):
        DataConfig(depth_scale=-1.0)


def write_folder(folder, names, targets="masks"):
    for number, name in enumerate(names):
        for kind, content in (("images", picture(number + len(folder.name))), (targets, mask(0, 1))):
            path = folder / kind / f"{name}.{'png' if kind == targets else 'jpg'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def test_folders_pair_files_by_stem(tmp_path):
    write_folder(tmp_path / "train", ["b", "a", "town/a"])
    write_folder(tmp_path / "val", ["c"])
    task = load_dense_task([str(tmp_path)], DataConfig(limit_train=2), "segmentation")
    assert (len(task.train), len(task.test), task.train.limited) == (2, 1, True)
    assert task.train.read(0)[1][0, :2].tolist() == [0, 1]
    (tmp_path / "train" / "masks" / "b.png").unlink()
    with pytest.raises(InputError, match=r"masks/b\.\*: 1 files .* have no partner"):
        load_dense_task([str(tmp_path)], DataConfig(), "segmentation")


def test_depth_folders_need_the_scale(tmp_path):
    for split in ("train", "val"):
        write_folder(tmp_path / split, ["a"], "depth")
    with pytest.raises(InputError, match=r"give data.depth_scale, metres per stored number"):
        load_dense_task([str(tmp_path)], DataConfig(), "depth")
    task = load_dense_task([str(tmp_path)], DataConfig(depth_scale=0.5), "depth")
    assert task.train.read(0)[1][0, :2].tolist() == [0, 0.5]


def test_splits_cross_to_other_processes(tmp_path):
    task = table_of(tmp_path, [mask(0, 1, 2)])
    image, target = pickle.loads(pickle.dumps(task.train)).read(0)
    assert np.array_equal(np.asarray(image), np.asarray(task.train.read(0)[0]))
    assert np.array_equal(target, task.train.read(0)[1])
