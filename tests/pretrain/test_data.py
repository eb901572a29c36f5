import shutil

import pytest
import torch
from torch.utils.data import DataLoader

from lvd_pretrain.data import Collate, CropDataset, build_loader, read_batches
from lvd_pretrain.errors import InputError
from lvd_pretrain.sources import open_images


def same(a, b):
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True))


def test_batches_have_the_promised_shapes_crop_major(tiny):
    config = tiny("optim.steps=1")
    source = open_images(config.data)
    (batch,) = build_loader(source, config, 0, 0, 1)
    assert batch.global_crops.shape == (8, 3, 32, 32)
    assert batch.local_crops.shape == (8, 3, 16, 16)
    assert batch.global_photometry.shape == batch.local_photometry.shape == (8, 7)
    assert batch.masks.shape == (8, 16)
    assert torch.equal(batch.masked, batch.masks.flatten().nonzero().squeeze(1))
    assert batch.masked_weights.shape == batch.masked.shape
    assert batch.global_crops.dtype == torch.uint8
    samples = [CropDataset(source, config)[i] for i in range(4)]
    for view in range(2):
        for i, sample in enumerate(samples):
            assert torch.equal(batch.global_crops[view * 4 + i], sample.global_crops[view])
            assert torch.equal(batch.global_photometry[view * 4 + i], torch.from_numpy(sample.photometry[view]))
            assert torch.equal(batch.local_photometry[view * 4 + i], torch.from_numpy(sample.photometry[2 + view]))


def test_distillation_on_all_patches_masks_them_all(tiny):
    config = tiny("optim.steps=1", "distill.teacher=some", "model.drop_path=0")
    (batch,) = build_loader(open_images(config.data), config, 0, 0, 1)
    assert torch.equal(batch.masked, torch.arange(8 * 16))
    assert torch.equal(batch.masked_weights, torch.full((8 * 16,), 1 / 16))


def test_no_local_crops_is_allowed(tiny):
    config = tiny("crops.local_number=0", "optim.steps=1")
    (batch,) = build_loader(open_images(config.data), config, 0, 0, 1)
    assert batch.local_crops.shape == (0, 3, 16, 16)
    assert batch.local_photometry.shape == (0, 7)


def test_batches_are_the_same_from_any_start_and_any_number_of_workers(tiny):
    config = tiny("optim.steps=5")
    source = open_images(config.data)
    straight = list(build_loader(source, config, 0, 0, 1))
    resumed = list(build_loader(source, config, 3, 0, 1))
    assert all(same(a, b) for a, b in zip(straight[3:], resumed, strict=True))
    workers = list(build_loader(source, tiny("optim.steps=5", "data.workers=2"), 0, 0, 1))
    assert all(same(a, b) for a, b in zip(straight, workers, strict=True))


def test_two_ranks_see_one_process_global_batch(tiny):
    source = open_images(tiny().data)
    (alone,) = build_loader(source, tiny("optim.steps=1"), 0, 0, 1)
    first, second = (next(iter(build_loader(source, tiny("optim.batch_size=2"), 0, rank, 2))) for rank in range(2))
    merged = torch.cat([first.global_crops.view(2, 2, 3, 32, 32), second.global_crops.view(2, 2, 3, 32, 32)], dim=1)
    assert torch.equal(alone.global_crops, merged.flatten(0, 1))


def test_unreadable_images_are_replaced_and_counted(tiny, images, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(images, mixed)
    for index in range(12):
        (mixed / f"broken_{index}.jpg").write_bytes(b"\xff\xd8 not an image")
    config = tiny(f"data.path={mixed}")
    dataset = CropDataset(open_images(config.data), config)
    batch = Collate(config)([dataset[i] for i in range(36)])
    assert batch.skipped >= 12
    assert len(batch.global_crops) == 72


def test_nothing_but_broken_images_and_too_few_images_are_named(tiny, tmp_path):
    for index in range(5):
        (tmp_path / f"{index}.jpg").write_bytes(b"no")
    config = tiny(f"data.path={tmp_path}")
    with pytest.raises(InputError, match="in a row"):
        CropDataset(open_images(config.data), config)[0]
    with pytest.raises(InputError, match=r"5 images.*at most 2"):
        build_loader(open_images(config.data), config, 0, 0, 2)


def test_weights_mix_sources_and_unknown_or_forgotten_ones_are_named(tiny, images):
    paths = f"data.paths={{a: '{images / 'part_0'}', b: '{images / 'part_1'}'}}"

    def dataset(*words):
        config = tiny("data.path=''", paths, *words)
        return CropDataset(open_images(config.data), config)

    order = dataset("data.weights={a: 3, b: 1}").order
    drawn = [order(position) < 8 for position in range(2000)]
    assert 0.7 < sum(drawn) / len(drawn) < 0.8
    only = dataset("data.weights={a: 0, b: 2}").order
    assert {only(position) for position in range(8 * 4)} == set(range(8, 16))
    for words, said in (
        ("{a: 1, c: 1}", "data.weights.c: no such source; there are a, b"),
        ("{a: 1}", "leaves out the source 'b'"),
        ("{a: 1, b: 1.0e-9}", "data.weights.b: below one sample"),
    ):
        with pytest.raises(InputError, match=said):
            dataset(f"data.weights={words}")
    config = tiny("data.weights={a: 1}")
    with pytest.raises(InputError, match="no column 'source'"):
        build_loader(open_images(config.data), config, 0, 0, 1)


class Broken:
    """Samples of a place that resets its connections."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise ConnectionResetError("by peer")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_reading_raises_is_not_taken_for_a_killed_worker(workers):
    with pytest.raises(ConnectionResetError, match="by peer"):
        list(read_batches(DataLoader(Broken(), num_workers=workers)))


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(104, "Connection reset by peer")])
def test_a_pipe_without_its_other_end_is_a_killed_worker(error):
    class Lost:
        num_workers = 1

        def __iter__(self):
            raise error

    with pytest.raises(InputError, match=r"a data worker was killed.*data\.workers"):
        list(read_batches(Lost()))
