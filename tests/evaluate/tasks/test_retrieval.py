import io

import datasets
import numpy as np
import pytest
from PIL import Image

from lvd_evaluate.config import DataConfig
from lvd_evaluate.errors import InputError
from lvd_evaluate.tasks.retrieval import cut_box, load_retrieval_task


def _write(path, images, **columns):
    cells = [{"bytes": image, "path": None} for image in images]
    table = datasets.Dataset.from_dict({"image": cells, **columns}).cast_column("image", datasets.Image())
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    return path


@pytest.fixture
def images(make_image):
    generator = np.random.default_rng(0)
    return [make_image(label, generator) for label in (0, 1, 2, 0, 1)]


@pytest.fixture
def lists(tmp_path, images):
    """Two queries, a database of four images with text ids."""
    _write(
        tmp_path / "q.parquet",
        images[:2],
        easy=[["a"], []],
        hard=[["b", "c"], ["d"]],
        junk=[["d"], ["a"]],
        box=[[2.0, 3.0, 12.0, 33.0], [0.0, 0.0, 40.0, 32.0]],
    )
    _write(tmp_path / "db.parquet", images[1:], id=["d", "c", "b", "a"])
    return [f"queries={tmp_path / 'q.parquet'}", f"database={tmp_path / 'db.parquet'}"]


def test_lists_become_rows_of_the_database(lists):
    task = load_retrieval_task(lists, DataConfig())
    assert not task.by_label
    first, second = task.judge(0), task.judge(1)
    assert [first.easy.tolist(), first.hard.tolist(), first.junk.tolist()] == [[3], [2, 1], [0]]
    assert [second.easy.tolist(), second.hard.tolist(), second.junk.tolist()] == [[], [0], [3]]


def test_queries_are_cut_to_their_boxes_and_the_rest_is_left_alone(lists, images):
    task = load_retrieval_task(lists, DataConfig())
    assert task.cropped
    cut = Image.open(io.BytesIO(task.queries.read(0, 1)[0]))
    whole = Image.open(io.BytesIO(images[0]))
    assert cut.size == (10, 29)  # clipped to the 40 x 32 pixels of the image
    assert np.array_equal(np.asarray(cut), np.asarray(whole.convert("RGB"))[3:32, 2:12])
    assert task.database.read(0, 1) == [images[1]]
    uncut = load_retrieval_task(lists, DataConfig(box=None))
    assert not uncut.cropped
    assert uncut.queries.read(0, 2) == images[:2]
    assert uncut.queries.fingerprint != task.queries.fingerprint


def test_other_lists_are_another_task(lists, tmp_path, images):
    before = load_retrieval_task(lists, DataConfig(box=None)).fingerprint
    _write(tmp_path / "q.parquet", images[:2], easy=[["a"], []], hard=[["b"], ["d"]], junk=[["d"], ["a"]])
    assert load_retrieval_task(lists, DataConfig()).fingerprint != before


def test_without_lists_the_same_label_is_right_in_both_sets(tmp_path, images):
    _write(tmp_path / "q.parquet", images[:2], label=["owl", "jay"])
    _write(tmp_path / "db.parquet", images, label=["jay", "owl", "kite", "owl", "owl"])
    data = [f"queries={tmp_path / 'q.parquet'}", f"database={tmp_path / 'db.parquet'}"]
    task = load_retrieval_task(data, DataConfig())
    assert [task.judge(row).easy.tolist() for row in (0, 1)] == [[1, 3, 4], [0]]
    assert not task.leave_one_out


def test_one_set_is_searched_by_each_of_its_images_which_is_junk_to_itself(tmp_path, images):
    task = load_retrieval_task([str(_write(tmp_path / "set.parquet", images, label=[0, 1, 2, 0, 1]))], DataConfig())
    assert task.leave_one_out
    assert task.name == "set"
    assert [task.judge(row).easy.tolist() for row in range(5)] == [[3], [4], [], [0], [1]]
    assert task.judge(3).junk.tolist() == [3]


def test_a_folder_with_both_sets_needs_no_words(tmp_path, images):
    for role in ("queries", "database"):
        _write(tmp_path / "set" / role / "data" / "all.parquet", images, label=[0, 1, 2, 0, 1])
    task = load_retrieval_task([str(tmp_path / "set")], DataConfig())
    assert not task.leave_one_out
    assert len(task.database) == 5


@pytest.mark.parametrize(
    ("columns", "database", "words"),
    [
        (
            {"easy": [["a"], ["z"]]},
            {"id": ["a", "b"]},
            "queries row 1, easy: the database holds no image with the id 'z'",
        ),
        ({"easy": [["a"], ["b"]]}, {"id": ["a", "a"]}, "'a' stands in more than one row"),
        ({"easy": [["a"], ["b"]], "junk": [["a"], []]}, {"id": ["a", "b"]}, "queries row 0: an id stands twice"),
        ({"easy": ["a", "b"]}, {"id": ["a", "b"]}, "not a list of ids"),
        ({"easy": [[0], [7]]}, {}, "no image with the id 7"),
        ({"easy": [[0], [1]], "box": [[5.0, 5.0, 5.0, 9.0], None]}, {}, "holds no pixel"),
        ({"junk": [[0], [1]]}, {}, "no query has a right image"),
        ({"label": [0, 1]}, {"label": ["a", "b"]}, "both alike"),
        ({"label": [0, 1]}, {"label": [2, 3]}, "no query has a right image"),
        ({"label": [0, None]}, {"label": [0, 1]}, "queries row 1: no label"),
        ({}, {}, "no column 'label'"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, images, columns, database, words):
    _write(tmp_path / "q.parquet", images[:2], **columns)
    _write(tmp_path / "db.parquet", images[:2], **database)
    data = [f"queries={tmp_path / 'q.parquet'}", f"database={tmp_path / 'db.parquet'}"]
    with pytest.raises(InputError, match=words):
        load_retrieval_task(data, DataConfig()).queries.read(0, 2)


def test_a_column_set_by_hand_must_be_there(lists):
    with pytest.raises(InputError, match=r"no column 'good'.*data.easy"):
        load_retrieval_task(lists, DataConfig(easy="good"))


@pytest.mark.parametrize("data", [["database=x"], ["queries=x", "queries=y"]])
def test_sets_are_named_once_and_queries_always(data):
    with pytest.raises(InputError, match="queries"):
        load_retrieval_task(data, DataConfig())


def test_a_box_of_strange_numbers_is_refused(images):
    for box in ([1.0, 2.0, 3.0], [0.0, 0.0, float("nan"), 9.0], "0 0 9 9"):
        with pytest.raises(InputError, match="not x0 y0 x1 y1"):
            cut_box(images[0], box, "queries row 0")
    with pytest.raises(InputError, match="queries row 0 cannot be decoded"):
        cut_box(b"no image", [0, 0, 9, 9], "queries row 0")
