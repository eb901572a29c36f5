import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lvd_evaluate.classifiers.linear_grid import feature_sets
from lvd_evaluate.classifiers.linear_stream import StreamedTraining, find_training
from lvd_evaluate.config import FeaturesConfig, LinearConfig
from lvd_evaluate.contracts import Split
from lvd_evaluate.errors import InputError
from lvd_evaluate.features import extract_features
from lvd_evaluate.probes.linear import evaluate_linear

CONFIG = LinearConfig(min_steps=40, epochs=1, batch_size=16, save_every=8, augment="true")
PASSES = FeaturesConfig(batch_size=8, threads=2)


@pytest.fixture(scope="module")
def images(make_image):
    """A split of 45 and one of 30 images of three classes."""

    def split(name: str, count: int, seed: int) -> Split:
        labels = np.arange(count) % 3
        generator = np.random.default_rng(seed)
        files = [make_image(label, generator, (24, 20)) for label in labels]
        ids = np.array([f"{name}{row}" for row in range(count)])
        return Split(name, lambda start, stop: files[start:stop], labels, ids, f"{name}-{seed}")

    return split("train", 45, 1), split("test", 30, 2)


@pytest.fixture
def features(images, make_encoder, tmp_path):
    return [extract_features(make_encoder(), split, tmp_path / "store", FeaturesConfig()) for split in images]


class Interrupted(Exception):
    pass


def _evaluate(features, images, encoder, protocol="dinov2", config=CONFIG, folder=None, passes=PASSES):
    train_split = images[0]
    (outcome,) = evaluate_linear(
        *features, 3, encoder, config, protocol, 0, train_split=train_split, folder=folder, passes=passes
    )
    return outcome


@pytest.mark.parametrize("protocol", ["clean", "dinov2"])
def test_heads_learn_from_augmented_views(features, images, colour_encoder, protocol):
    outcome = _evaluate(features, images, colour_encoder, protocol)
    assert (outcome.predictions == images[1].labels).mean() > 0.9
    assert outcome.notes["trained_on"].startswith("augmented views")
    assert outcome.notes["heads"] == 52
    assert outcome.procedure == f"linear-52-augmented-{protocol}-40x16-resize18-crop16"
    stages = 2 if protocol == "clean" else 1
    assert colour_encoder.calls == stages * 40 * 2  # one pass over the views for all heads, 16 views in passes of 8


def test_the_clean_choice_on_views_never_sees_test(features, images, make_encoder):
    train, test = features
    emptied = dataclasses.replace(test, labels=torch.full_like(test.labels, -1))
    first, second = (_evaluate((train, part), images, make_encoder(), "clean") for part in (test, emptied))
    assert (first.setting, first.notes) == (second.setting, second.notes)
    assert np.array_equal(first.predictions, second.predictions)


@pytest.mark.parametrize(
    "change",
    [
        {"config": dataclasses.replace(CONFIG, learning_rates=(0.5,) * 13)},
        {"config": dataclasses.replace(CONFIG, momentum=0.5)},
        {"seed": 1},
        {"num_classes": 4},
        {"passes": FeaturesConfig(precision="bfloat16")},
        {"rows": torch.arange(44)},
        {"rates": range(12)},
    ],
)
def test_a_training_with_anything_else_does_not_go_on_from_this_state(features, images, colour_encoder, change):
    def state(rows=torch.arange(45), rates=range(13), config=CONFIG, num_classes=3, seed=0, passes=PASSES):  # noqa: B008
        training = StreamedTraining(
            colour_encoder, images[0], features[0], num_classes, config, passes, seed, Path("folder")
        )
        return training._state_file(rows, feature_sets(features[0], config), rates)

    assert state(**change) != state() == state()


def _stacks(features, images, encoder, threads=2, folder=None, batch=8):
    passes = FeaturesConfig(batch_size=batch, threads=threads)
    training = StreamedTraining(encoder, images[0], features[0], 3, CONFIG, passes, 0, folder)
    return training(torch.arange(45), feature_sets(features[0], CONFIG), range(13))


def test_neither_threads_nor_passes_change_a_number(features, images, make_encoder):
    first = _stacks(features, images, make_encoder(), threads=1, batch=8)
    second = _stacks(features, images, make_encoder(), threads=4, batch=16)
    for feature_set, heads in first.items():
        assert torch.allclose(heads.weights, second[feature_set].weights, atol=1e-6)
        assert heads.weights.abs().max() > 0.05


@pytest.mark.parametrize(("protocol", "calls"), [("dinov2", 3), ("dinov2", 37), ("clean", 37), ("clean", 85)])
def test_a_killed_training_goes_on_to_the_same_numbers(features, images, make_encoder, tmp_path, protocol, calls):
    whole = _evaluate(features, images, make_encoder(), protocol)
    encoder = make_encoder()
    encode = encoder.encode

    def encode_until_killed(*args, **kwargs):
        if encoder.calls == calls:
            raise Interrupted
        return encode(*args, **kwargs)

    encoder.encode = encode_until_killed
    with pytest.raises(Interrupted):
        _evaluate(features, images, encoder, protocol, folder=tmp_path)
    again = make_encoder()
    resumed = _evaluate(features, images, again, protocol, folder=tmp_path)
    assert np.array_equal(resumed.predictions, whole.predictions)
    assert (resumed.setting, resumed.notes) == (whole.setting, whole.notes)
    stages = 2 if protocol == "clean" else 1
    assert again.calls == stages * 80 - calls // 16 * 16  # a state every 8 steps of 2 passes
    assert not list(tmp_path.glob("views-*"))


def test_states_of_other_settings_are_left_alone(features, images, make_encoder, tmp_path):
    first = _stacks(features, images, make_encoder(), folder=tmp_path)
    encoder = make_encoder(scale=0.5)
    encoder.fingerprint = "another"
    _stacks(features, images, encoder, folder=tmp_path)
    assert encoder.calls == 80
    encoder = make_encoder()
    again = _stacks(features, images, encoder, folder=tmp_path)
    assert encoder.calls == 0
    for feature_set, heads in first.items():
        for ours, theirs in zip(heads.state(), again[feature_set].state(), strict=True):
            assert torch.equal(ours, theirs)


def test_only_the_papers_own_run_bears_its_name(features, images, colour_encoder):
    large = dataclasses.replace(images[0], labels=np.zeros(1_281_167, dtype=np.int64))

    def name(protocol="dinov2", split=large, **words):
        config = LinearConfig(**words)
        training = find_training(features[0], 3, colour_encoder, config, protocol, 0, split, None, None)
        return training.name(protocol)

    assert name() == "linear-52-augmented-dinov2"  # as in reference_results.json, before the sizes
    assert name(augment="false") == "linear-52-cached-dinov2"
    assert name("clean") == "linear-52-cached-clean"
    assert name("clean", augment="true") == "linear-52-augmented-clean"
    assert name(batch_size=128) == "linear-52-augmented-dinov2-100091x128"
    assert name(epochs=1) == "linear-52-augmented-dinov2-1251x1024"
    assert name(momentum=0.8) == "linear-52-augmented-dinov2-12511x1024-custom"
    assert name(split=images[0]) == "linear-52-augmented-dinov2-500x16"


def test_the_batch_shrinks_where_there_would_be_too_few_updates(features, images, colour_encoder):
    for count, batch, steps in ((1_281_167, 1024, 12_511), (51_200, 1024, 500), (50_000, 512, 977), (45, 16, 500)):
        split = dataclasses.replace(images[0], labels=np.zeros(count, dtype=np.int64))
        training = StreamedTraining(colour_encoder, split, features[0], 3, LinearConfig(), PASSES, 0, None)
        assert (training.batch_size, training.steps) == (batch, steps)


def test_an_image_that_cannot_be_decoded_is_named(features, images, colour_encoder):
    broken = dataclasses.replace(images[0], read=lambda start, stop: [b"no image"] * (stop - start))
    with pytest.raises(InputError, match=r"train image \d+ \(sha256 train\d+\) cannot be decoded"):
        _evaluate(features, (broken, images[1]), colour_encoder)


def test_views_without_images_are_our_own_mistake(features, colour_encoder):
    with pytest.raises(ValueError, match="pass train_split"):
        evaluate_linear(*features, 3, colour_encoder, CONFIG, "clean", 0)


SHARES = """
import sys
import numpy as np, torch, torch.distributed as dist
from lvd_evaluate.config import FeaturesConfig, LinearConfig
from lvd_evaluate.contracts import Features, Split, Tokens
from lvd_evaluate.classifiers.linear_grid import feature_sets
from lvd_evaluate.classifiers.linear_stream import StreamedTraining
import io
from PIL import Image

folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)

class Encoder:
    loader = fingerprint = "colour"
    image_size = resize_size = 8
    mean = std = (0.5, 0.5, 0.5)
    num_layers, device = 1, torch.device("cpu")
    def encode(self, images, layers, *, normed=True):
        colour = images.float().mean(dim=(2, 3)) / 255
        return [Tokens(cls=colour, patches=colour[:, None, None, :].expand(-1, 2, 2, -1))]

def image(row):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(row).integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()

labels = np.arange(11) % 3
split = Split("train", lambda start, stop: [image(row) for row in range(start, stop)], labels, labels.astype(str), "s")
train = Features(torch.zeros(11, 1, 3), torch.zeros(11, 3), torch.from_numpy(labels), 1.0, 1.0)
config = LinearConfig(min_steps=6, epochs=0, batch_size=5, augment="true")
training = StreamedTraining(Encoder(), split, train, 3, config, FeaturesConfig(batch_size=2, threads=1), 0, None)
stacks = training(torch.arange(11), feature_sets(train, config), range(13))
np.save(f"{folder}/{world}-{rank}.npy", torch.cat([heads.weights.flatten() for heads in stacks.values()]).numpy())
"""


@pytest.mark.slow
def test_two_processes_train_the_same_heads_as_one(tmp_path):
    def start(rank: int, world: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", SHARES, str(tmp_path), str(rank), str(world)])

    running = [start(0, 1), start(0, 2), start(1, 2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    one, first, second = (np.load(Path(tmp_path, f"{name}.npy")) for name in ("1-0", "2-0", "2-1"))
    assert np.array_equal(first, second)
    assert np.allclose(one, first, atol=1e-6)
    assert np.abs(one).max() > 0.01
