import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from lvd_evaluate.config import DataConfig, SegmentationSizes
from lvd_evaluate.contracts import DenseSplit
from lvd_evaluate.dense import loading
from lvd_evaluate.dense.loading import PreparedRows, TrainingSamples, prepared_rows, training_batches
from lvd_evaluate.dense.segmentation_views import Augment
from lvd_evaluate.errors import InputError
from lvd_evaluate.tasks.dense import load_dense_task


class Read:
    """Row n: an image of one colour, n everywhere in its target."""

    def __call__(self, row):
        return Image.new("RGB", (4, 4), (row, 0, 0)), np.full((4, 4), row)


def shift(image, target, generator):
    draw = int(generator.integers(1000))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1), torch.from_numpy(target * 1000 + draw)


def prepare(image, target):
    return int(target[0, 0])


def samples(seed=0):
    split = DenseSplit("train", Read(), np.array(list("abcdefg")), "seven")
    return TrainingSamples(split, np.array([0, 1, 2, 4, 6]), shift, seed)


def targets(start, stop, seed=0):
    return [batch.tolist() for _, batch in training_batches(samples(seed), 3, start, stop, 0)]


def test_every_row_comes_once_per_pass_in_a_new_order():
    passes = [[samples().row(turn * 5 + place) for place in range(5)] for turn in range(6)]
    assert all(sorted(rows) == [0, 1, 2, 4, 6] for rows in passes)
    assert len({tuple(rows) for rows in passes}) > 1


def test_batches_depend_on_seed_and_step_alone():
    whole = targets(0, 6)
    assert targets(4, 6) == whole[4:]  # what goes on is what would have come
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert targets(0, 6) == whole
    assert torch.equal(torch.get_rng_state(), state)
    assert targets(0, 6, seed=1) != whole
    draws = {value[0][0] % 1000 for batch in whole for value in batch}
    assert len(draws) > 12  # a row's second turn is augmented anew


def test_rows_come_in_order():
    rows = PreparedRows(samples().split, prepare)
    assert list(prepared_rows(rows, [5, 0, 3], 0)) == [5, 0, 3]


def prepare_badly(image, target):
    """Row 0 ends its process; the others raise, as a hub or a truncated file might."""
    row = prepare(image, target)
    if row == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    raise SAID[row - 1]


SAID = [ConnectionResetError("peer"), EOFError("cut short"), RuntimeError("DataLoader"), InputError("row 4")]


@pytest.mark.parametrize(
    ("row", "workers"),
    [(1, 0), (2, 0), (3, 0), (4, 0), *(pytest.param(row, 1, marks=pytest.mark.slow) for row in (1, 4))],
)
def test_what_a_row_raises_is_not_taken_for_a_killed_process(row, workers):
    with pytest.raises(type(SAID[row - 1])) as caught:
        list(prepared_rows(PreparedRows(samples().split, prepare_badly), [row], workers))
    assert "was killed" not in str(caught.value)
    assert row != 4 or str(caught.value) == "row 4"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
        ConnectionRefusedError(111, "Connection refused"),
        EOFError(),
    ],
)
def test_a_killed_process_shows_in_several_ways_which_depend_on_the_moment(monkeypatch, error):
    class Broken:
        num_workers = 1

        def __iter__(self):
            raise error

    monkeypatch.setattr(loading, "_loader", lambda *_, **__: Broken())
    with pytest.raises(InputError, match=r"a process that reads images was killed.*segmentation\.workers"):
        list(prepared_rows(PreparedRows(samples().split, prepare), [0], 1))


@pytest.mark.slow
def test_a_process_that_is_killed_is_told():
    with pytest.raises(InputError, match="a process that reads images was killed"):
        list(prepared_rows(PreparedRows(samples().split, prepare_badly), [0], 1))


@pytest.mark.slow
def test_other_processes_give_the_same(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 1)):
        for kind, shape in (("images", (20, 24, 3)), ("masks", (20, 24))):
            (tmp_path / split / kind).mkdir(parents=True)
            for row in range(count):
                pixels = generator.integers(0, 256 if kind == "images" else 3, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / kind / f"{row}.png")
    split = load_dense_task([str(tmp_path)], DataConfig(), "segmentation").train
    sizes = SegmentationSizes(resize=16, crop=16, stride=8)
    crops = TrainingSamples(split, np.arange(4), Augment(sizes, 0.75, (0, 0, 0)), seed=1)
    here, there = (list(training_batches(crops, 3, 0, 4, workers)) for workers in (0, 1))
    assert all(
        torch.equal(a, b) for ours, theirs in zip(here, there, strict=True) for a, b in zip(ours, theirs, strict=True)
    )
