import hashlib
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from lvd_evaluate.config import DepthConfig
from lvd_evaluate.contracts import DenseSplit, DenseTask, Tokens
from lvd_evaluate.errors import InputError
from lvd_evaluate.probes import depth as probe
from lvd_evaluate.probes.depth import evaluate_depth

CONFIG = DepthConfig(
    heads=("lin.1", "lin.4"),
    learning_rates=(1e-4, 3e-2),
    steps=40,
    batch_size=3,
    bins=16,
    max_depth=5.0,
    save_every=10,
    pictures=2,
    workers=0,
)


class PatchColours:
    """Tokens of every layer are mean colours of 8-pixel patches, centred."""

    name = spec = loader = feature = fingerprint = "patch colours"
    image_size, resize_size, patch_size, num_layers, num_parameters = 16, 18, 8, 4, 0
    mean = std = (0.5, 0.5, 0.5)
    device = torch.device("cpu")

    def at_size(self, height, width):
        return self

    def encode(self, images, layers, *, normed=True):
        patches = 4 * F.avg_pool2d(images - 0.5, 8).permute(0, 2, 3, 1)
        return [Tokens(cls=patches.mean((1, 2)), patches=patches) for _ in layers]


@dataclass(frozen=True)
class Rooms:
    """Grey patches, the brighter the nearer; some pixels unread."""

    seed: int
    wrong: bool = False  # whether depth says nothing about the image
    empty: tuple[int, ...] = ()  # rows without any depth

    def __call__(self, row):
        generator = np.random.default_rng([self.seed, row])
        light = np.kron(generator.uniform(0.1, 0.9, (3, 4)), np.ones((8, 8)))
        metres = np.kron(generator.uniform(0.1, 0.9, (3, 4)), np.ones((8, 8))) if self.wrong else light
        metres = (4.5 - 4 * metres).astype(np.float32)
        metres[generator.random(metres.shape) < 0.1] = 0
        image = Image.fromarray(np.repeat((light * 255).astype(np.uint8)[..., None], 3, axis=2))
        return image, np.zeros_like(metres) if row in self.empty else metres


def build_split(name, count, rooms):
    ids = np.array([hashlib.sha256(f"{name} {row}".encode()).hexdigest() for row in range(count)])
    return DenseSplit(name, rooms, ids, f"{rooms}")


def build_task(num_train=10, num_test=5, **test):
    return DenseTask(
        "rooms", "depth", [], build_split("train", num_train, Rooms(1)), build_split("test", num_test, Rooms(2, **test))
    )


def value(outcome, metric):
    found = next(measurement for measurement in outcome.measurements if measurement.metric == metric)
    return float(found.numerators.sum() / found.denominators.sum())


def run(task=None, protocol="clean", folder=None, seed=0, **settings):
    return evaluate_depth(
        task or build_task(), PatchColours(), replace(CONFIG, **settings), protocol, seed, folder=folder
    )


@pytest.mark.parametrize("protocol", ["clean", "dinov2"])
def test_heads_beat_a_guess_without_eyes_and_say_how(protocol, tmp_path):
    outcomes = run(protocol=protocol, folder=tmp_path, steps=80)
    assert [outcome.setting for outcome in outcomes] == [{"head": "lin.1"}, {"head": "lin.4"}]
    for outcome in outcomes:
        assert value(outcome, "rmse") < 0.75 * outcome.notes["constant_guess_rmse"]
        assert outcome.notes["learning_rate"] == 3e-2
        assert (
            outcome.notes["chosen_on"]
            == {"clean": "1 held-out train images", "dinov2": "the test images themselves"}[protocol]
        )
        assert outcome.notes["train_images"] == {"clean": 9, "dinov2": 10}[protocol]
        assert outcome.notes["rmse_without_mirroring"] == pytest.approx(value(outcome, "rmse"), rel=0.2)
        assert protocol in outcome.procedure
        assert len(outcome.measurements[0].numerators) == 5
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["0000-lin.4.png", "0001-lin.4.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]  # no state is left behind


def test_wrong_test_depths_change_no_choice_under_clean():
    right, wrong = run(), run(build_task(wrong=True))
    for one, other in zip(right, wrong, strict=True):
        assert one.notes["learning_rate"] == other.notes["learning_rate"]
        assert one.notes["abs_rel_there"] == other.notes["abs_rel_there"]
        assert value(one, "rmse") < value(other, "rmse")


def test_a_killed_run_gives_the_same_numbers(tmp_path, monkeypatch):
    whole = run()
    read = probe.training_batches

    def dying(*arguments):
        for step, batch in enumerate(read(*arguments)):
            if step == 25:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(probe, "training_batches", dying)
    with pytest.raises(KeyboardInterrupt):
        run(folder=tmp_path)
    starts = []
    monkeypatch.setattr(probe, "training_batches", lambda *words: (starts.append(words[2]), read(*words))[1])
    resumed = run(folder=tmp_path)
    assert starts == [20]
    for one, other in zip(whole, resumed, strict=True):
        assert one.notes == other.notes
        assert np.array_equal(one.measurements[0].numerators, other.measurements[0].numerators)


def test_images_without_depth_keep_their_place_and_do_not_count():
    found = run(build_task(empty=(1, 3)))[0].measurements[0]
    assert found.denominators.ravel().tolist() == [1, 0, 1, 0, 1]


def test_pixels_outside_the_crop_do_not_count():
    outcomes = [run(eval_crop=crop, protocol="dinov2") for crop in ("none", "eigen")]
    assert value(outcomes[0][0], "rmse") != value(outcomes[1][0], "rmse")


def test_heads_that_diverge_are_never_chosen_and_all_diverging_is_said():
    assert {outcome.notes["learning_rate"] for outcome in run(learning_rates=(1e-2, float("inf")))} == {1e-2}
    with pytest.raises(InputError, match="diverged"):
        run(learning_rates=(float("inf"),))


def test_a_depth_that_is_no_number_is_said_not_left_out(monkeypatch):
    plain, calls = probe.predict, []

    def broken(*given):
        calls.append(given)
        return plain(*given) * (float("nan") if len(calls) == 3 else 1)  # the held-out image, then those of test

    monkeypatch.setattr(probe, "predict", broken)
    with pytest.raises(InputError, match="depth is not finite on 1 of 5 test images"):
        run()


def test_predictions_stay_within_the_range_and_mirrored_ones_are_turned_back():
    class Ramp(torch.nn.Module):
        def forward(self, tokens):
            width = tokens.patches.shape[3]
            return torch.linspace(-1, 9, width).expand(len(tokens.patches), 2, width).clone()

    reader = probe.build_reader(PatchColours(), CONFIG, "clean")
    ramp = probe.Candidate("lin.1", 1.0, Ramp(), None)
    image = torch.zeros(3, 16, 48, dtype=torch.uint8)
    averaged, alone = probe.predict([ramp], reader, image, (2, 6), CONFIG)
    there = torch.linspace(-1, 9, 6).clamp(CONFIG.min_depth, CONFIG.max_depth).expand(2, 6)
    assert torch.allclose(alone, there)
    assert torch.allclose(averaged, (there + there.flip(1)) / 2)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rates": (1e-4, 1e-2)},
        {"steps": 41},
        {"bins": 17},
        {"max_depth": 6.0},
        {"holdout": 0.2},
        {"region": "kb"},
        {"crop": (8, 8)},
        {"precision": "bfloat16"},
        {"gradient_weight": 0.5},
    ],
)
def test_a_training_with_other_settings_does_not_go_on_from_this_state(change):
    def identity(config, protocol="clean", seed=0):
        return probe.describe_training(build_task(), PatchColours(), config, protocol, seed)

    known = identity(CONFIG)
    assert identity(replace(CONFIG, **change)) != known
    assert identity(CONFIG, "dinov2") != known != identity(CONFIG, seed=1)
    assert identity(replace(CONFIG, workers=3, pictures=0, eval_crop="eigen")) == known


def test_the_papers_run_has_a_name_of_its_own():
    settings = {"learning_rates": (1e-4,), "region": "nyu", "crop": (416, 544), "eval_crop": "eigen"}
    name = "depth-lin.1-dinov2-rate0.0001-38400x16-to10m-crop416x544-nyu-eigen-native-flip"
    assert probe.name_procedure("lin.1", DepthConfig(**settings), "dinov2") == name
    assert probe.name_procedure("lin.1", DepthConfig(**settings, bins=64), "dinov2") == f"{name}-custom"


def test_what_cannot_be_learned_from_is_refused():
    with pytest.raises(InputError, match="depth_scale"):
        run(max_depth=0.1)
    with pytest.raises(InputError, match="none of 2 test images"):
        run(build_task(num_test=2, empty=(0, 1)), steps=1)
    with pytest.raises(InputError, match="1 train image"):
        run(build_task(num_train=1))


SHARE = """
import importlib.util, sys
import numpy as np
import torch.distributed as dist

file, folder, rank, world = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
spec = importlib.util.spec_from_file_location("rooms", file)
rooms = importlib.util.module_from_spec(spec)
sys.modules["rooms"] = rooms
spec.loader.exec_module(rooms)
from pathlib import Path
outcomes = rooms.run(folder=Path(folder) / f"of-{world}", save_every=3, steps=12)
values = [measurement.numerators for outcome in outcomes for measurement in outcome.measurements]
np.save(f"{folder}/{world}-{rank}.npy", np.stack(values))
"""


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path):
    """Three images a batch and five to test on, which two cannot share evenly."""

    def start(rank: int, world: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", SHARE, __file__, str(tmp_path), str(rank), str(world)])

    for process in [start(0, 1), start(0, 2), start(1, 2)]:
        assert process.wait(timeout=300) == 0
    alone, first, second = (np.load(tmp_path / f"{name}.npy") for name in ("1-0", "2-0", "2-1"))
    assert alone.shape == (18, 5, 1)
    assert np.array_equal(first, second)
    np.testing.assert_allclose(first, alone, rtol=1e-5)
    assert len(list((tmp_path / "of-2" / "pictures").iterdir())) == 2
