from dataclasses import asdict

import numpy as np
import pytest

from lvd_curate.sample_corpus.outlines import OUTLINES
from lvd_curate.sample_corpus.patterns import PATTERNS
from lvd_curate.sample_corpus.render import render
from lvd_curate.sample_corpus.world import CLASSES, OTHER_CLASSES, SEED_CLASSES, draw_scene


def scenes_of(label, count):
    return [draw_scene(label, np.random.default_rng([label, index])) for index in range(count)]


def mains(label, count):
    return [next(body for body in scene.bodies if body.label == label) for scene in scenes_of(label, count)]


def test_every_class_has_an_outline_and_a_pattern_of_its_own():
    assert len(SEED_CLASSES) == 12
    assert len(OTHER_CLASSES) == 6
    for names, known in (([c.outline for c in CLASSES], OUTLINES), ([c.pattern for c in CLASSES], PATTERNS)):
        assert len(set(names)) == len(CLASSES)
        assert set(names) <= set(known)


def test_a_scene_follows_from_its_random_numbers_alone():
    first, second = (asdict(draw_scene(3, np.random.default_rng(5))) for _ in range(2))
    np.testing.assert_equal(first, second)


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_main_object_is_large_and_near_the_middle(label):
    shares, centres = [], []
    for scene in scenes_of(label, 12):
        mask = render(scene).mask
        seen = mask == 1 + label
        shares.append(seen.mean())
        centres.append(np.argwhere(seen).mean(axis=0) / mask.shape)
    assert np.min(shares) > 0.15
    assert 0.25 < np.median(shares) < 0.6
    assert np.abs(np.array(centres) - 0.5).max() < 0.3


def test_colours_are_drawn_alike_for_all_classes():
    """The mean light tone of a class says nothing of it: classes differ by less than their own spread."""
    tones = np.array([[body.paint.light for body in mains(label, 60)] for label in range(len(CLASSES))])  # [C, N, 3]
    spread = tones.std(axis=1).mean(axis=0)
    assert (tones.mean(axis=1).std(axis=0) < 0.35 * spread).all()


def test_scenes_vary_in_their_company():
    scenes = [scene for label in range(12) for scene in scenes_of(label, 20)]
    kinds = [tuple("clutter" if body.label is None else "object" for body in scene.bodies) for scene in scenes]
    assert 0.1 < np.mean([kind.count("object") == 2 for kind in kinds]) < 0.3
    assert 0.6 < np.mean(["clutter" in kind for kind in kinds]) < 0.9
    assert len({len(scene.planes) for scene in scenes}) == 3
    assert all(len(SEED_CLASSES) > body.label for scene in scenes for body in scene.bodies if body.label is not None)


@pytest.mark.slow
def test_raw_pixels_say_little_of_the_class():
    """k nearest neighbours by cosine of 32 x 32 RGB pixels, k = 20: well under 60 %."""
    from PIL import Image

    def pixels(part, count):
        draws = [draw_scene(i % 12, np.random.default_rng([part, i])) for i in range(count)]
        small = [np.asarray(Image.fromarray(render(scene).image).resize((32, 32)), np.float32) for scene in draws]
        rows = np.stack(small).reshape(count, -1) - 128
        return rows / np.linalg.norm(rows, axis=1, keepdims=True), np.arange(count) % 12

    (train, train_labels), (test, test_labels) = pixels(0, 720), pixels(1, 240)
    similarity = test @ train.T
    nearest = np.argsort(-similarity, axis=1)[:, :20]
    votes = np.zeros((len(test), 12))
    for column in nearest.T:
        votes[np.arange(len(test)), train_labels[column]] += np.exp(similarity[np.arange(len(test)), column] / 0.07)
    assert np.mean(votes.argmax(axis=1) == test_labels) < 0.5
