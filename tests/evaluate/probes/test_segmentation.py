import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lvd_evaluate import ranks
from lvd_evaluate.config import SegmentationConfig, SegmentationSizes
from lvd_evaluate.contracts import VOID, DenseSplit, DenseTask
from lvd_evaluate.dense import segmentation_training
from lvd_evaluate.encoders.pixels import PixelEncoder
from lvd_evaluate.errors import InputError
from lvd_evaluate.probes import segmentation as probe
from lvd_evaluate.probes.segmentation import evaluate_segmentation

SMALL = SegmentationSizes(resize=16, crop=16, stride=8, scales=(0.8, 1.5))
CONFIG = SegmentationConfig(
    linear=SMALL,
    multiscale=replace(SMALL, layers=4, ratios=(1.0, 1.5), flip=True),
    learning_rates=(1e-4, 0.1),
    weight_decays=(1e-4,),
    steps=24,
    batch_size=4,
    max_share=1.0,
    workers=0,
    save_every=10,
    pictures=2,
)
CLASSES = 3


def scene(number: int, shuffled: bool) -> tuple[Image.Image, np.ndarray]:
    """Red beside green beside blue under noise; borders, order and size differ; a void rim."""
    generator = np.random.default_rng(number)
    height, width = int(generator.integers(16, 26)), int(generator.integers(20, 33))
    borders = np.sort(generator.choice(np.arange(3, width - 3), 2, replace=False))
    order = generator.permutation(CLASSES)
    classes = np.broadcast_to(order[np.searchsorted(borders, np.arange(width), side="right")], (height, width))
    pixels = generator.normal(90, 25, (height, width, 3))
    pixels[np.arange(height)[:, None], np.arange(width)[None], classes] += 90
    target = classes.astype(np.int64)
    if shuffled:
        target = generator.permutation(CLASSES)[target]
    target[0] = VOID
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), target


def make_task(num_train=9, num_test=5, shuffled=False) -> DenseTask:
    def split(name, first, count, shuffled):
        ids = np.array([f"{first + row}" for row in range(count)])
        return DenseSplit(name, lambda row: scene(first + row, shuffled), ids, f"{name}{count}{shuffled}")

    test = split("test", 1000, num_test, shuffled)
    return DenseTask("scenes", "segmentation", list("rgb"), split("train", 0, num_train, False), test)


def pixels() -> PixelEncoder:
    return PixelEncoder("pixels:16", 16, torch.device("cpu"))


def counts(outcome):
    """Intersections and unions of every test image."""
    return np.stack([outcome.measurements[0].numerators, outcome.measurements[0].denominators])


def value(outcome, place=0):
    measurement = outcome.measurements[place]
    return float((measurement.numerators.sum(axis=0) / measurement.denominators.sum(axis=0)).mean())


def test_heads_learn_and_everything_is_said():
    (outcome,) = evaluate_segmentation(make_task(), pixels(), CONFIG, "clean", 0)
    assert [m.metric for m in outcome.measurements] == ["miou", "pixel_accuracy", "class_accuracy"]
    assert outcome.measurements[0].numerators.shape == (5, CLASSES)
    assert outcome.measurements[2].denominators.sum() == sum(
        (scene(1000 + row, False)[1] >= 0).sum() for row in range(5)
    )
    assert value(outcome) > 0.7
    assert outcome.setting == {"variant": "linear", "learning_rate": 0.1, "weight_decay": 1e-4}
    assert (
        outcome.procedure == "segmentation-linear-2-clean-steps24x4-resize16-crop16-stride8-x1-other-max_share-scales"
    )
    assert outcome.notes["chosen_on"] == "1 held-out train images"
    assert outcome.notes["trained_on"] == "8 train images"
    assert outcome.headline


def test_choice_never_looks_at_test_under_clean():
    truth, shuffled = (
        evaluate_segmentation(make_task(shuffled=shuffled), pixels(), CONFIG, "clean", 0)[0]
        for shuffled in (False, True)
    )
    assert shuffled.setting == truth.setting
    assert shuffled.notes == truth.notes
    assert value(shuffled) < value(truth) - 0.2


def test_the_held_out_slice_is_never_trained_on_and_heads_are_judged_with_their_norm_at_rest(monkeypatch):
    trained, judged = [], []
    train, measure = probe.train_heads, probe.measure_heads
    monkeypatch.setattr(probe, "train_heads", lambda *given: trained.extend(given[1]) or train(*given))

    def note(plan, heads, which, split, rows):
        judged.append((split.name, list(rows), heads.training))
        return measure(plan, heads, which, split, rows)

    monkeypatch.setattr(probe, "measure_heads", note)
    evaluate_segmentation(make_task(), pixels(), replace(CONFIG, steps=2, holdout=0.3), "clean", 0)
    (choice, held_out, _), (final, rows, _) = judged
    assert (choice, final, rows) == ("train", "test", list(range(5)))
    assert sorted([*trained, *held_out]) == list(range(9))
    assert len(held_out) == 3
    assert {training for _, _, training in judged} == {False}


def test_dinov2_is_one_head_unless_asked_and_chooses_on_test():
    plain = replace(CONFIG, learning_rates=(), weight_decays=())
    (outcome,) = evaluate_segmentation(make_task(), pixels(), plain, "dinov2", 0)
    assert outcome.setting == {"variant": "linear", "learning_rate": 1e-3, "weight_decay": 1e-4}
    assert outcome.notes["chosen_on"] == "nothing: there was one head"
    assert outcome.notes["trained_on"] == "9 train images"
    (sweep,) = evaluate_segmentation(make_task(), pixels(), CONFIG, "dinov2", 0)
    assert sweep.notes["chosen_on"] == "the test images themselves"
    assert sweep.notes["miou_there"] == pytest.approx(value(sweep))


def test_procedure_is_the_published_one_only_where_everything_is():
    def procedure(**changes):
        config = replace(
            CONFIG, **{"learning_rates": (), "weight_decays": (), "max_share": 0.75, "linear": original} | changes
        )
        return evaluate_segmentation(make_task(), pixels(), config, "dinov2", 0)[0].procedure

    original = SegmentationSizes(resize=16, crop=16, stride=8)
    same = "segmentation-linear-1-dinov2-steps24x4-resize16-crop16-stride8-x1"
    assert procedure() == same
    assert procedure(warmup=0.1) == f"{same}-other-warmup"
    assert procedure(learning_rates=(3e-4,)) == f"{same}-other-rates"
    assert procedure(linear=replace(original, scales=(1.0, 2.0))) == f"{same}-other-scales"


def test_whole_patches_under_clean_only():
    odd = replace(CONFIG, linear=replace(SMALL, crop=18, resize=18), steps=1)
    clean, released = (
        evaluate_segmentation(make_task(), pixels(), odd, protocol, 0)[0] for protocol in ("clean", "dinov2")
    )
    assert (clean.notes["crop"], clean.notes["resize"]) == (16, 16)
    assert (released.notes["crop"], released.notes["resize"]) == (18, 18)


def test_more_scales_and_mirror_images_are_a_variant():
    first, second = evaluate_segmentation(
        make_task(), pixels(), replace(CONFIG, variants=("linear", "multiscale")), "clean", 0
    )
    assert second.setting["variant"] == "multiscale"
    assert "-x1-x1.5-flip-" in second.procedure
    assert value(second) > 0.7
    assert not np.array_equal(counts(first), counts(second))


def test_views_are_averaged_as_probabilities_each_counting_the_same(monkeypatch):
    plain, found = segmentation_training.predict_scores, []

    def note(plan, heads, which, images, size):
        scores = plain(plan, heads, which, images, size)
        views = [plain(plan, heads, which, [image], size) for image in images]
        found.append((scores, torch.stack(views).mean(dim=0)))
        return scores

    monkeypatch.setattr(segmentation_training, "predict_scores", note)
    evaluate_segmentation(make_task(), pixels(), replace(CONFIG, variants=("multiscale",), steps=12), "clean", 0)
    for scores, mean_of_views in found:
        assert torch.allclose(scores.sum(dim=1), torch.ones(scores.shape[2:]), atol=1e-5)
        assert torch.allclose(scores, mean_of_views, atol=1e-5)


def test_a_killed_run_goes_on_to_the_same_numbers(tmp_path, monkeypatch):
    (whole,) = evaluate_segmentation(make_task(), pixels(), CONFIG, "clean", 0, folder=tmp_path / "whole")
    train_step, calls = segmentation_training.train_step, []

    def dying(*args, **kwargs):
        calls.append(1)
        if len(calls) == 16:
            raise KeyboardInterrupt
        train_step(*args, **kwargs)

    monkeypatch.setattr(segmentation_training, "train_step", dying)
    with pytest.raises(KeyboardInterrupt):
        evaluate_segmentation(make_task(), pixels(), CONFIG, "clean", 0, folder=tmp_path / "killed")
    assert len(list((tmp_path / "killed").glob("state-*.pt"))) == 1
    (again,) = evaluate_segmentation(make_task(), pixels(), CONFIG, "clean", 0, folder=tmp_path / "killed")
    assert len(calls) == 16 + 14  # steps 10..23 once more
    assert np.array_equal(counts(again), counts(whole))
    assert again.notes == whole.notes
    assert not list((tmp_path / "killed").glob("state-*.pt"))


def test_pictures_show_image_truth_and_prediction(tmp_path):
    evaluate_segmentation(make_task(), pixels(), replace(CONFIG, steps=1), "clean", 0, folder=tmp_path)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["linear-0000.png", "linear-0001.png"]
    with Image.open(tmp_path / "pictures" / names[0]) as picture:
        width, height = scene(1000, False)[0].size
        assert picture.size == (3 * width + 8, height)
        assert np.array_equal(np.asarray(picture)[:, :width], np.asarray(scene(1000, False)[0]))


def test_what_cannot_be_measured_is_one_line(colour_encoder):
    colour_encoder.patch_size = None
    with pytest.raises(InputError, match="no patch tokens"):
        evaluate_segmentation(make_task(), colour_encoder, CONFIG, "clean", 0)
    with pytest.raises(InputError, match="1 train image leaves none"):
        evaluate_segmentation(make_task(num_train=1), pixels(), CONFIG, "clean", 0)
    wild = replace(CONFIG, learning_rates=(float("inf"),), steps=2)
    with pytest.raises(InputError, match="all heads have diverged"):
        evaluate_segmentation(make_task(), pixels(), wild, "clean", 0)


def test_a_diverged_head_is_not_chosen():
    sweep = replace(CONFIG, learning_rates=(float("inf"), 1e-2), steps=5)
    (outcome,) = evaluate_segmentation(make_task(), pixels(), sweep, "clean", 0)
    assert outcome.setting["learning_rate"] == 1e-2


def test_an_image_without_finite_scores_is_missed_not_left_out(monkeypatch):
    task, plain = make_task(), segmentation_training.predict_scores
    size = task.test.read(2)[1].shape
    (whole,) = evaluate_segmentation(task, pixels(), CONFIG, "clean", 0)
    monkeypatch.setattr(
        segmentation_training,
        "predict_scores",
        lambda *given: plain(*given) * (float("nan") if given[4] == size else 1),
    )
    (broken,) = evaluate_segmentation(task, pixels(), CONFIG, "clean", 0)
    there, right = broken.measurements[1].denominators[:, 0], broken.measurements[1].numerators[:, 0]
    assert np.array_equal(there, whole.measurements[1].denominators[:, 0])
    assert (right == 0).tolist() == [False, False, True, False, False]
    assert value(broken) < value(whole)


def test_numbers_depend_on_the_seed_alone():
    torch.manual_seed(1)
    (first,) = evaluate_segmentation(make_task(), pixels(), CONFIG, "clean", 3)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    (second,) = evaluate_segmentation(make_task(), pixels(), CONFIG, "clean", 3)
    (other,) = evaluate_segmentation(make_task(), pixels(), CONFIG, "clean", 4)
    assert np.array_equal(counts(first), counts(second))
    assert not np.array_equal(counts(first), counts(other))


def _measure_in(processes: int, out: Path) -> np.ndarray:
    """Counts that processes of one launch come to together."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    launch = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, __file__, str(out)],
            env={**os.environ, **launch, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    errors = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0] * processes, errors
    return np.load(out)


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path):
    (alone,) = evaluate_segmentation(make_task(), pixels(), replace(CONFIG, batch_size=5), "clean", 0)
    assert np.array_equal(_measure_in(2, tmp_path / "two.npy"), counts(alone))


def main() -> None:
    with ranks.together():
        (outcome,) = evaluate_segmentation(make_task(), pixels(), replace(CONFIG, batch_size=5), "clean", 0)
        if ranks.is_main():
            np.save(sys.argv[1], counts(outcome))


if __name__ == "__main__":
    main()
