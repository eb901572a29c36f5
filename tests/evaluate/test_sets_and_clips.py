"""Robustness and video from --data to results.jsonl."""

import io

import numpy as np
import pytest
from PIL import Image

from lvd_evaluate.benchmark import run_benchmark
from lvd_evaluate.errors import InputError
from lvd_evaluate.recipes import Assignment, build_config
from lvd_evaluate.scoring.results import load_rows

WORDS = ["linear.min_steps=40", "linear.epochs=0", "linear.batch_size=32", "bootstrap=200", "knn.headline=5"]


def _run(data, probe, out, words=(), ckpt="pixels:8", baselines=("pixels:4",)):
    assignment = Assignment(None, [str(value) for value in data], [probe], build_config(None, [*WORDS, *words]))
    return run_benchmark(str(ckpt), list(baselines), [assignment], out)


def test_heads_of_one_task_answer_further_sets(corpus, make_dataset, tmp_path):
    sketches = make_dataset(tmp_path / "sketches", [0, 2] * 6, seed=7, split="test")
    data = [corpus, f"sketches={sketches}"]
    rows = _run(data, "robustness", tmp_path / "out", ["robustness.corruptions=[contrast]", "data.limit_test=12"])
    ours = {(row.setting["head"], row.setting["set"]): row for row in rows if row.spec == "pixels:8"}
    assert sorted(ours) == [(head, name) for head in ("knn", "linear") for name in ("corrupted", "sketches")]
    for (head, name), row in ours.items():
        assert (row.metric, row.higher_is_better) == (
            ("top1", True) if name == "sketches" else ("corruption_error", False)
        )
        assert (row.n_test, row.notes["images"]) == ((12, 12) if name == "sketches" else (12, 60))
        assert row.notes["classes"] == (2 if name == "sketches" else 3)
        assert row.ci_low <= row.value <= row.ci_high
        (comparison,) = row.comparisons
        theirs = next(row for row in rows if row.spec == "pixels:4" and row.setting == {"head": head, "set": name})
        assert comparison["delta"] == pytest.approx(row.value - theirs.value)
    assert ours["linear", "sketches"].value > 0.7
    again = _run(data, "robustness", tmp_path / "out", ["robustness.corruptions=[contrast]", "data.limit_test=12"])
    assert [(row.value, row.date) for row in again] == [(row.value, row.date) for row in rows]  # not measured twice


def test_robustness_needs_a_set(corpus, tmp_path):
    with pytest.raises(InputError, match="add --data NAME=PATH"):
        _run([corpus], "robustness", tmp_path / "out")
    with pytest.raises(InputError, match="read by the probe robustness alone"):
        _run([corpus, f"more={corpus}"], "knn", tmp_path / "out")


@pytest.fixture
def clips(tmp_path):
    """Bars that move right or left over noise."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 12)):
        for kind, direction in (("left", -1), ("right", 1)):
            for clip in range(count):
                folder = tmp_path / "clips" / split / kind / str(clip)
                folder.mkdir(parents=True)
                for number in range(4):
                    pixels = generator.normal(90, 10, (16, 16, 3))
                    place = 6 + direction * (2 * number - 3)
                    pixels[:, place : place + 4] += 120
                    buffer = io.BytesIO()
                    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
                    (folder / f"{number}.png").write_bytes(buffer.getvalue())
    return tmp_path / "clips"


def test_clips_are_units(clips, tmp_path):
    values = {}
    for how in ("average", "concatenate"):
        words = [f"video.combine={how}", "video.frames=4", "linear.min_steps=200"]
        (row, *_) = _run([clips], "video", tmp_path / "out", words, baselines=())
        assert (row.n_train, row.n_test, row.n_classes, row.units) == (40, 24, 2, "clips")
        assert row.setting["combine"] == how
        values[how] = row.value
    assert values["concatenate"] > 0.9 > values["average"]  # only the order of the frames tells the classes apart
    assert len(load_rows(tmp_path / "out" / "results.jsonl")) == 2 * 2


def test_heads_on_views_are_trained_by_the_papers_protocol(run_folder, corpus, tmp_path):
    (row, *_) = _run([corpus], "linear", tmp_path / "out", ["protocol=dinov2"], run_folder, ())
    assert row.procedure == "linear-52-augmented-dinov2-40x32-resize32-crop28"
    assert row.notes["trained_on"].startswith("augmented views")
    assert not list((tmp_path / "out").rglob("views-*.pt"))
