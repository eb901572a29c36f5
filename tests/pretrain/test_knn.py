import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from lvd_pretrain.errors import InputError
from lvd_pretrain.knn import KnnMonitor, leave_one_out
from lvd_pretrain.train import pretrain


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Two classes of 16 images, dark and bright, in folders of their names."""
    root = tmp_path_factory.mktemp("labelled")
    for name, level in (("dark", 30), ("bright", 220)):
        (root / name).mkdir()
        for index in range(16):
            noise = np.random.default_rng([level, index]).integers(-25, 25, (36, 44, 3))
            Image.fromarray((level + noise).astype(np.uint8)).save(root / name / f"{index}.png")
    return root


def test_leave_one_out_agrees_with_a_library(tiny):
    torch.manual_seed(0)
    features, labels = torch.randn(60, 8), torch.randint(0, 3, (60,))
    features += torch.nn.functional.one_hot(labels, 8) * 1.5
    points = torch.nn.functional.normalize(features, dim=-1).numpy()
    hits = 0
    for i in range(60):
        rest = np.arange(60) != i
        library = KNeighborsClassifier(5, weights=lambda distance: np.exp((1 - distance**2 / 2) / 0.07))
        library.fit(points[rest], labels.numpy()[rest])
        hits += library.predict(points[i : i + 1])[0] == labels[i].item()
    assert leave_one_out(features, labels, 5, 0.07) == pytest.approx(hits / 60)


def test_a_run_measures_itself_on_the_labelled_set(tiny, labelled):
    run = pretrain(tiny("optim.steps=4", f"knn.path={labelled}", "knn.every=2", "knn.neighbours=3"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert ["knn_top1" in line for line in lines] == [False, True, False, True]
    assert lines[-1]["knn_top1"] > 0.9  # brightness survives even untrained weights


def test_measuring_changes_no_loss(tiny, labelled, tmp_path):
    plain, watched = (
        pretrain(tiny("optim.steps=3", "model.drop_path=0.3", f"out={tmp_path / str(i)}", *words))
        for i, words in enumerate(([], [f"knn.path={labelled}", "knn.every=1", "knn.neighbours=3"]))
    )
    one, two = (
        [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (plain, watched)
    )
    assert one == two


def test_mistakes_are_named(tiny, labelled, images):
    for words, said in (
        (("knn.every=2",), "go together"),
        ((f"knn.path={labelled}", "knn.every=3", "log_every=2"), "multiple of log_every"),
        ((f"knn.path={labelled}", "knn.every=1", "knn.neighbours=40"), "32 images for knn.neighbours=40"),
        ((f"knn.path={labelled}", "knn.every=1", "knn.label=kind"), "knn.label=kind: not among"),
        (("knn.path=/nowhere", "knn.every=1"), "knn.path=/nowhere"),
    ):
        with pytest.raises(InputError, match=said):
            KnnMonitor(tiny(*words))
